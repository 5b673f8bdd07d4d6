import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../../e2e/lab/wait.ts';
import { type FakeApi, startFakeApi } from './fake-api.ts';
import { type Workbench, workbench } from './plugin.ts';

let bench: Workbench;
let api: FakeApi;
let config: string;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  bench = await workbench();
}, 60_000);
afterAll(() => bench.close());
beforeEach(async () => {
  api = await startFakeApi();
  api.play = () => undefined;
  config = bench.kubeconfig(api);
});
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await api.close();
});

const operationOf = (node: string) =>
  [...api.operations.values()].find((operation) => operation.spec.nodeName === node)?.metadata?.name ?? '';

describe('Ctrl-C', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s leaves the operation running and says how to follow or cancel it: exit code 4',
    async (signal) => {
      const running = bench.start('kubectl-restart', ['n1', 'n2', '--context=lab', `--kubeconfig=${config}`]);
      await waitFor(() => api.watches() === 1, { what: 'the watch' });
      running.child.kill(signal);
      const { code, stdout, stderr } = await running.done;
      const name = operationOf('n1');
      expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
      expect(stderr).toContain(
        [
          `interrupted: the restart of node n1 goes on (operation ${name}, Pending)`,
          `  follow it: kubectl infra logs n1 -f --kubeconfig=${config} --context=lab`,
          `  cancel it: kubectl infra cancel ${name} --kubeconfig=${config} --context=lab`,
          'not done: node/n2 (1 of 2)',
          '',
        ].join('\n'),
      );
      expect(api.requests.some(({ path }) => path.endsWith('/cancel'))).toBe(false);
      expect(api.posts()).toHaveLength(1);
    },
  );

  test('while the request is on its way: it may have been accepted', async () => {
    api.intercept = ({ method }) => method === 'POST';
    const running = bench.start('kubectl-restart', ['n1', `--kubeconfig=${config}`]);
    await waitFor(() => api.posts().length === 1, { what: 'the request' });
    running.child.kill('SIGINT');
    expect(await running.done).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('may have been accepted; look: kubectl infra operations --node=n1'),
    });
  });
});

// util-linux's script gives the plugin a terminal of its own.
describe('on a terminal', () => {
  beforeEach((context) => {
    if (!existsSync('/usr/bin/script')) context.skip('there is no script of util-linux to make a terminal with');
  });
  const onTerminal = (args: string[], env: Record<string, string> = {}) => {
    const command = [process.execPath, join(bench.bin, 'kubectl-restart'), ...args, `--kubeconfig=${config}`]
      .map((word) => `'${word}'`)
      .join(' ');
    const child = spawn('/usr/bin/script', ['-qec', `stty cols 60 rows 10; exec ${command}`, '/dev/null'], {
      env: { PATH: process.env['PATH'] ?? '', HOME: bench.folder, TERM: 'xterm', SHELL: '/bin/sh', ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    children.add(child);
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const done = new Promise<number | null>((resolve) => child.on('close', resolve));
    return { child, done, output: () => output };
  };
  const ERASE = '\u001b[1A\u001b[2K';

  test('one line a node, redrawn in place and no wider than the terminal; the result stays', async () => {
    const running = onTerminal(['n1', 'n2', '--max-unavailable=2']);
    await waitFor(() => api.watches() === 2, { what: 'both watches' });
    api.set(operationOf('n1'), {
      phase: 'Draining',
      podsToEvict: 7,
      podsEvicted: 3,
      message: 'waiting for default/web-0, which has a disruption budget',
    });
    await waitFor(() => running.output().includes('3 of 7 pods'), { what: 'the pods' });
    const block = /n1 {2}Draining +\d+s {2}3 of 7 pods evicted; wai[^\r\n]*…\r\nn2 {2}Pending +\d+s\r\n/;
    expect(running.output()).toMatch(block);
    for (const line of running.output().replaceAll(ERASE, '').split('\r\n')) expect(line.length).toBeLessThan(60);
    api.set(operationOf('n2'), { phase: 'Succeeded' });
    await waitFor(() => running.output().includes('node/n2 restarted'), { what: 'the first result' });
    api.set(operationOf('n1'), { phase: 'Succeeded' });
    expect(await running.done).toBe(0);
    // What a terminal would show in the end: every erased line is gone.
    const screen: string[] = [];
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the sequence that erases a line begins with ESC
    for (const part of running.output().split(/(\r\n|\u001b\[1A\u001b\[2K)/)) {
      if (part === ERASE) screen.splice(-2, 2, '');
      else if (part === '\r\n') screen.push('');
      else screen[Math.max(0, screen.length - 1)] = (screen.at(-1) ?? '') + part;
    }
    expect(screen.join('\n')).toMatch(/^node\/n2 restarted \(\d+s, operation .*\)\nnode\/n1 restarted \(\d+s, operation .*\)\n$/);
  });

  test('Ctrl-C typed by a person', async () => {
    const running = onTerminal(['n1']);
    await waitFor(() => api.watches() === 1, { what: 'the watch' });
    running.child.stdin.write('\u0003');
    expect(await running.done).toBe(4);
    expect(running.output()).toContain(`kubectl infra cancel ${operationOf('n1')}`);
  });

  test('NO_COLOR and TERM=dumb are honoured', async () => {
    const failing = async (env: Record<string, string>) => {
      api.intercept = ({ method }, response) => {
        if (method === 'POST') response.setHeader('warning', '299 - "careful"');
        return false;
      };
      const running = onTerminal(['n1', '--wait=false'], env);
      expect(await running.done).toBe(0);
      return running.output();
    };
    expect(await failing({})).toContain('\u001b[33mWarning:\u001b[0m careful');
    expect(await failing({ NO_COLOR: '1' })).toContain('Warning: careful');
    expect(await failing({ TERM: 'dumb' })).not.toContain('\u001b');
  });
});
