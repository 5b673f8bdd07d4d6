import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type FakeApi, reply, startFakeApi } from './fake-api.ts';
import { type Workbench, workbench } from './plugin.ts';

let bench: Workbench;
let api: FakeApi;
let config: string;

beforeAll(async () => {
  bench = await workbench();
}, 60_000);
afterAll(() => bench.close());
beforeEach(async () => {
  api = await startFakeApi();
  config = bench.kubeconfig(api);
});
afterEach(() => api.close());

const restart = (...args: string[]) => bench.run('kubectl-restart', [`--kubeconfig=${config}`, ...args]);

describe('dry run', () => {
  const guards = [
    { guard: 'AlreadyRunning', passed: true, message: 'nothing runs on n1' },
    { guard: 'Cooldown', passed: false, message: 'restarted 1 min ago', remedy: 'wait 4 min' },
  ];
  const answer = (passed: boolean) => {
    api.intercept = ({ method, body }, response) => {
      if (method !== 'POST') return false;
      const spec = { nodeName: 'n1', action: 'Restart', dryRun: body?.['dryRun'], requestedBy: { username: 'tester' } };
      reply(response, 200, { kind: 'NodeOperation', spec, status: { phase: 'Pending', guards: passed ? guards.slice(0, 1) : guards } });
      return true;
    };
  };

  test('shows each guard with its evidence and remedy; 3 when one refuses, 0 when none does', async () => {
    answer(false);
    expect(await restart('n1', '--dry-run=server')).toEqual({
      code: 3,
      stderr: '',
      stdout: [
        'node/n1: restart would be refused by 1 of 2 guards (server dry run)',
        '  pass    AlreadyRunning  nothing runs on n1',
        '  REFUSE  Cooldown        restarted 1 min ago',
        '                          to clear: wait 4 min',
        '',
      ].join('\n'),
    });
    expect(api.posts()[0]?.body?.['dryRun']).toEqual(['All']);
    answer(true);
    expect(await restart('n1', '--dry-run=server')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('would be accepted: the guard passes'),
    });
  });

  test('a hub that acts in spite of it is an error, loudly', async () => {
    api.intercept = ({ method }, response) => {
      if (method === 'POST')
        reply(response, 201, { kind: 'NodeOperation', metadata: { name: 'op' }, spec: { nodeName: 'n1', action: 'Restart' } });
      return method === 'POST';
    };
    expect(await restart('n1', '--dry-run=server')).toMatchObject({ code: 1, stderr: expect.stringContaining('kubectl infra cancel op') });
  });
});

describe('usage', () => {
  test.each([
    [[], 'which node? Give its name, several names, or --selector'],
    [['n1', '--dry-run'], '--dry-run needs a value: --dry-run=server or --dry-run=none'],
    [['n1', '--dry-run=client'], '--dry-run=client cannot say anything here: guards and cloud are asked by the hub. Use --dry-run=server'],
    [['n1', '--dry-run=maybe'], 'invalid dry-run value (maybe): must be "none" or "server"'],
    [['n1', '-l', 'a=b'], 'give either names of nodes or --selector, not both'],
    [['-l', ''], '--selector is empty: it would name every node'],
    [['pod/n1'], '"pod/n1" is not a node: give NAME or node/NAME'],
    [['../n1'], '"../n1" is not a node: give NAME or node/NAME'],
    [['n1', '--frobnicate'], 'unknown flag: --frobnicate'],
    [['n1', '-z'], 'unknown shorthand flag: z in -z'],
    [['n1', '--timeout'], 'flag needs an argument: --timeout'],
    [['n1', '--timeout=10'], '--timeout takes a duration such as 90s, 10m or 1h30m, not "10"'],
    [['n1', '--max-unavailable=0'], '--max-unavailable takes a number from 1 on or a percentage from 1% to 100%, not "0"'],
    [['n1', '--grace-period=5'], '--grace-period has no effect without --drain'],
    [['n1', '--drain=maybe'], '--drain is either true or false, not "maybe"'],
    [['n1', '--as-group=g'], '--as-group, --as-uid and --as-user-extra need --as: a group cannot be impersonated without a user'],
  ])('%j is exit code 2 with one clear line', async (args, message) => {
    expect(await restart(...args)).toEqual({ code: 2, stdout: '', stderr: `error: ${message}\nSee 'kubectl restart --help' for usage.\n` });
    expect(api.requests).toHaveLength(0);
  });

  test('an unknown output is exit code 2 before anything is asked', async () => {
    expect(await restart('n1', '-o', 'wide')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('allowed formats are: json, yaml, name'),
    });
    expect(api.requests).toHaveLength(0);
  });

  test('help begins with the name of the command and has examples and exit codes', async () => {
    const { code, stdout } = await restart('-h');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^kubectl restart - /);
    expect(stdout).toContain('Examples:\n');
    expect(stdout).toContain('Exit codes: 0 done, 1 error, 2 usage, 3 refused by a guard, 4 accepted but not finished in time.');
  });
});

describe('output', () => {
  test('json, yaml, jsonpath and custom-columns', async () => {
    const json = await restart('n1', '-o', 'json');
    expect(JSON.parse(json.stdout)).toMatchObject({ kind: 'NodeOperation', spec: { nodeName: 'n1' }, status: { phase: 'Succeeded' } });
    expect(JSON.parse((await restart('n1', 'n2', '-ojson')).stdout)).toMatchObject({
      kind: 'List',
      items: [{ spec: { nodeName: 'n1' } }, { spec: { nodeName: 'n2' } }],
    });
    expect((await restart('n1', '-o=yaml')).stdout).toMatch(/^apiVersion: infraops.michael.io\/v1\nkind: NodeOperation\nmetadata:\n/);
    expect((await restart('n1', '-o', 'jsonpath={.status.phase}{"\\n"}')).stdout).toBe('Succeeded\n');
    expect((await restart('n1', '-o', 'custom-columns=NODE:.spec.nodeName,PHASE:.status.phase')).stdout).toBe(
      'NODE   PHASE\nn1     Succeeded\n',
    );
  });
});
