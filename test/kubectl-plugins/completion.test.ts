import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FakeApi, node, startFakeApi } from './fake-api.ts';
import { type Workbench, workbench } from './plugin.ts';

let bench: Workbench;
let api: FakeApi;
let config: string;

beforeAll(async () => {
  bench = await workbench();
  api = await startFakeApi([
    node(
      'n1',
      { ready: 'True', lastRestart: { time: new Date(Date.now() - 3 * 86_400_000 - 60_000).toISOString(), requestedBy: 'ann' } },
      { unschedulable: true },
    ),
    node('n2', { ready: 'False' }),
    node('m1', { ready: 'True', operation: 'op1' }),
  ]);
  for (const [name, phase] of [
    ['op1', 'Draining'],
    ['op2', 'Succeeded'],
  ] as const) {
    api.operations.set(name, {
      metadata: { name },
      spec: { nodeName: 'm1', action: 'Restart', requestedBy: { username: 'ann' } },
      status: { phase },
    });
  }
  config = bench.kubeconfig(api);
}, 60_000);
afterAll(async () => {
  bench.close();
  await api.close();
});

const complete = async (plugin: 'restart' | 'infra', ...args: string[]) => {
  const { code, stdout, stderr } = await bench.run(`kubectl_complete-${plugin}`, args, { KUBECONFIG: config });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
};

test('nodes with readiness, cordon and last restart; the last word may be empty', async () => {
  expect(await complete('restart', '')).toBe(
    'n1\tReady · cordoned · restarted 3 d ago by ann\nn2\tNotReady\nm1\tReady · operation op1 runs\n:4\n',
  );
  expect(await complete('restart', 'n')).toMatch(/^n1\t.*\nn2\t.*\n:4\n$/);
  expect(await complete('restart', 'node/n2')).toBe('node/n2\tNotReady\n:4\n');
});

test('nodes that stand there already are left out', async () => {
  expect(await complete('restart', 'n1', 'node/m1', '--drain', '')).toBe('n2\tNotReady\n:4\n');
});

test('flags and their values', async () => {
  expect(await complete('restart', '--delete')).toMatch(/^--delete-emptydir-data\t.*\n:4\n$/);
  expect(await complete('restart', '--context', '')).toBe('lab\tlab\n:4\n');
  expect(await complete('restart', '--context=l')).toBe('lab\tlab\n:4\n');
  expect(await complete('restart', '--user=')).toBe('tester\n:4\n');
  expect(await complete('restart', '-o', 'j')).toBe('json\njsonpath=\n:4\n');
  expect(await complete('restart', '-o', 'jsonp')).toBe('jsonpath=\n:6\n');
  expect(await complete('restart', '--dry-run=')).toBe('none\tact\nserver\trun every guard, change nothing\n:4\n');
  expect(await complete('restart', '--drain=t')).toBe('true\n:4\n');
  expect(await complete('restart', '--kubeconfig', '')).toBe(':0\n');
  expect(await complete('restart', '--nope=')).toBe(':4\n');
});

test('commands of kubectl infra and their words', async () => {
  expect(await complete('infra', 's')).toMatch(/^stop\t.*\nstart\t.*\n:4\n$/);
  expect(await complete('infra', 'cancel', '')).toBe('op1\tRestart of m1 · Draining · by ann\n:4\n');
  expect(await complete('infra', '--context', 'lab', 'operations', 'op')).toMatch(/^op1\t.*\nop2\t.*\n:4\n$/);
  expect(await complete('infra', 'stop', 'm')).toBe('m1\tReady · operation op1 runs\n:4\n');
  expect(await complete('infra', 'operations', '--node=m')).toBe('m1\tReady · operation op1 runs\n:4\n');
  expect(await complete('infra', 'start', '--dr')).toMatch(/^--dry-run\t.*\n:4\n$/);
  expect(await complete('infra', 'completion', '')).toBe('install\tWrite the completion files\n:4\n');
  expect(await complete('infra', 'version', '')).toBe(':4\n');
});

test('a cluster that cannot be reached gives no candidates, and no noise', async () => {
  expect(await complete('restart', '--server=https://127.0.0.1:1', '')).toBe(':4\n');
  expect(await complete('restart', '--kubeconfig=/nonexistent', '')).toBe(':4\n');
});

test('one file serves both plugins, by the name it is called', async () => {
  copyFileSync(join(bench.bin, 'kubectl_complete-restart'), join(bench.bin, 'kubectl_complete-infra'));
  expect(await complete('infra', 'sto')).toMatch(/^stop\t/);
});
