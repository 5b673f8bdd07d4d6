import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../../e2e/lab/wait.ts';
import { type FakeApi, fail, node, refuse, startFakeApi } from './fake-api.ts';
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

describe('one node', () => {
  test('a restart is followed to its end, with plain lines on stderr and the result on stdout', async () => {
    const { code, stdout, stderr } = await restart('n1');
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toMatch(/^node\/n1 restarted \(\d+s, operation restart-n1-\d+\)\n$/);
    expect(stderr).toMatch(/^n1: Pending \(0s\)$/m);
    expect(stderr).toMatch(/^n1: Succeeded: the node is back \(\d+s\)$/m);
    const [post] = api.posts();
    expect(post?.path).toBe('/apis/infraops.michael.io/v1/nodes/n1/restart');
    expect(post?.body).toMatchObject({ apiVersion: 'infraops.michael.io/v1', kind: 'RestartOptions' });
    expect(post?.query.get('fieldValidation')).toBe('Strict');
    expect(post?.body?.['requestID']).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('drain flags become the fields of RestartOptions', async () => {
    const flags = [
      '--drain',
      '--ignore-daemonsets=false',
      '--delete-emptydir-data',
      '--disable-eviction',
      '--drain-force',
      '--grace-period=30',
    ];
    const more = [
      '--pod-selector=app=web',
      '--skip-wait-for-delete-timeout',
      '60',
      '--drain-timeout=5m',
      '--timeout=1h30m',
      '--hard',
      '--force',
      '--reason',
      'kernel',
    ];
    expect(await restart('node/n1', ...flags, ...more)).toMatchObject({ code: 0 });
    const { requestID, ...body } = api.posts()[0]?.body ?? {};
    expect(requestID).toBeTypeOf('string');
    expect(body).toEqual({
      apiVersion: 'infraops.michael.io/v1',
      kind: 'RestartOptions',
      hard: true,
      drain: true,
      ignoreDaemonSets: false,
      deleteEmptyDirData: true,
      evictUnmanaged: true,
      disableEviction: true,
      podSelector: 'app=web',
      gracePeriodSeconds: 30,
      skipWaitForDeleteTimeoutSeconds: 60,
      drainTimeoutSeconds: 300,
      timeoutSeconds: 5400,
      force: true,
      reason: 'kernel',
    });
  });

  test('a failed operation is exit code 1 with its reason', async () => {
    api.play = (operation) =>
      setImmediate(() => api.set(operation.metadata?.name ?? '', { phase: 'Failed', reason: 'CloudError', message: 'no such instance' }));
    const { code, stdout, stderr } = await restart('n1');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /error: restart of node n1 failed: CloudError: no such instance \(operation restart-n1-\d+; see kubectl infra logs n1 --kubeconfig=/,
    );
  });

  test('refused by guards is exit code 3, each with evidence and remedy', async () => {
    api.intercept = ({ method }, response) => {
      if (method !== 'POST') return false;
      refuse(response, 'n1', [
        { guard: 'ControlPlaneQuorum', message: '1 of 3 is down.', remedy: 'kubectl infra start cp2' },
        { guard: 'Cooldown', message: 'restarted 1 min ago' },
      ]);
      return true;
    };
    const { code, stderr } = await restart('n1');
    expect(code).toBe(3);
    expect(stderr).toContain(
      'refused: restart of node n1 by 2 guards\n  ControlPlaneQuorum: 1 of 3 is down.\n    to clear: kubectl infra start cp2\n  Cooldown: restarted 1 min ago\n',
    );
  });

  test('a conflict that is no refusal is exit code 1', async () => {
    api.intercept = ({ method }, response) => method === 'POST' && fail(response, 409, 'Conflict', 'another one runs');
    expect(await restart('n1')).toMatchObject({ code: 1, stderr: 'error: restart of node n1: from server (Conflict): another one runs\n' });
  });

  test('not finished in time is exit code 4, and says how to follow and cancel', async () => {
    api.play = () => undefined;
    const { code, stderr } = await restart('n1', '--timeout=1s');
    expect(code).toBe(4);
    expect(stderr).toMatch(
      /not finished within 1s: the restart of node n1 goes on \(operation (restart-n1-\d+), Pending\)\n {2}follow it: kubectl infra logs n1 -f .*\n {2}cancel it: kubectl infra cancel \1/,
    );
  });

  test('--wait=false ends at acceptance', async () => {
    api.play = () => undefined;
    const { code, stdout, stderr } = await restart('n1', '--wait=false');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^node\/n1 restart accepted \(operation restart-n1-\d+\)\n$/);
    expect(stderr).toContain('follow it: kubectl infra logs n1 -f');
    expect(api.requests).toHaveLength(1);
  });

  test('warnings of the server are shown, and count with --warnings-as-errors', async () => {
    api.intercept = ({ method }, response) => {
      if (method === 'POST') response.setHeader('warning', '299 - "guard \\"Cooldown\\" was passed over", 299 - "second"');
      return false;
    };
    expect((await restart('n1')).stderr).toContain('Warning: guard "Cooldown" was passed over\nWarning: second\n');
    expect(await restart('n1', '--warnings-as-errors')).toMatchObject({ code: 1 });
  });
});

describe('lost connections', () => {
  test('a lost answer is asked again with the same request id, and makes one operation', async () => {
    let lost = 0;
    api.intercept = ({ method, path, body }, response) => {
      if (method !== 'POST' || lost++ > 0) return false;
      // The operation is made, but nobody hears of it.
      api.operations.set('restart-n1-0', {
        apiVersion: 'infraops.michael.io/v1',
        kind: 'NodeOperation',
        metadata: { name: 'restart-n1-0', resourceVersion: '100' },
        spec: {
          nodeName: path.split('/')[5] ?? '',
          action: 'Restart',
          requestID: String(body?.['requestID']),
          requestedBy: { username: 'tester' },
        },
        status: { phase: 'Succeeded' },
      });
      response.destroy();
      return true;
    };
    const { code, stdout, stderr } = await restart('n1');
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toContain('operation restart-n1-0)');
    expect(stderr).toContain('n1: no answer, asking again: ');
    expect(new Set(api.posts().map(({ body }) => body?.['requestID'])).size).toBe(1);
    expect(api.posts()).toHaveLength(2);
    expect(api.operations.size).toBe(1);
  });

  test('503 is asked again, 403 is not', async () => {
    let times = 0;
    api.intercept = ({ method }, response) => method === 'POST' && times++ === 0 && fail(response, 503, 'ServiceUnavailable', 'starting');
    expect(await restart('n1')).toMatchObject({ code: 0 });
    expect(api.posts()).toHaveLength(2);
    api.intercept = ({ method }, response) => method === 'POST' && fail(response, 403, 'Forbidden', 'nodes "n1" is forbidden');
    expect(await restart('n1')).toMatchObject({
      code: 1,
      stderr: 'error: restart of node n1: from server (Forbidden): nodes "n1" is forbidden\n',
    });
    expect(api.posts()).toHaveLength(3);
  });

  test('waiting survives a cut watch, errors of the server and a forgotten resourceVersion', async () => {
    api.play = () => undefined;
    const running = bench.start('kubectl-restart', [`--kubeconfig=${config}`, 'n1']);
    await waitFor(() => api.watches() === 1, { what: 'the watch' });
    const [name = ''] = api.operations.keys();
    let errors = 0;
    api.intercept = ({ query }, response) =>
      query.get('watch') === 'true' && errors++ < 2 && fail(response, 503, 'ServiceUnavailable', 'restarting');
    api.forgetHistory();
    api.cutWatches();
    await waitFor(() => errors > 2 && api.watches() === 1, { what: 'the watch again' });
    expect(errors).toBeGreaterThan(2);
    api.set(name, { phase: 'WaitingForReady' });
    await waitFor(() => running.stderr().includes('n1: WaitingForReady'), { what: 'the new phase' });
    api.set(name, { phase: 'Succeeded' });
    expect(await running.done).toMatchObject({ code: 0 });
    expect(api.requests.some(({ path, query }) => path.endsWith('/nodeoperations') && !query.has('watch'))).toBe(true);
  });

  test('an operation that ended while nothing could be watched ends the wait without another watch', async () => {
    api.play = () => undefined;
    const running = bench.start('kubectl-restart', [`--kubeconfig=${config}`, 'n1']);
    await waitFor(() => api.watches() === 1, { what: 'the watch' });
    const [name = ''] = api.operations.keys();
    api.set(name, { phase: 'Restarting' });
    await waitFor(() => running.stderr().includes('n1: Restarting'), { what: 'the phase' });
    const watched = () => api.requests.filter(({ query }) => query.has('watch')).length;
    api.cutWatches();
    api.set(name, { phase: 'Succeeded' });
    api.forgetHistory();
    expect(await running.done).toMatchObject({ code: 0 });
    // The one at the beginning, and the one that was answered with 410.
    expect(watched()).toBe(2);
  });

  test('an operation that may not be watched is reported as accepted, exit code 4', async () => {
    api.play = () => undefined;
    api.intercept = ({ path }, response) => path.endsWith('/nodeoperations') && fail(response, 403, 'Forbidden', 'no');
    const { code, stderr } = await restart('n1');
    expect(code).toBe(4);
    expect(stderr).toMatch(
      /error: the operation restart-n1-\d+ on node n1 was accepted but cannot be followed: from server \(Forbidden\): no/,
    );
  }, 30_000);
});

describe('several nodes', () => {
  test('one after another, duplicates once', async () => {
    const { code, stdout } = await restart('n1', 'node/n1', 'n2', 'nodes/n2', 'n3');
    expect(code).toBe(0);
    expect(stdout.split('\n').map((line) => line.split(' ')[0])).toEqual(['node/n1', 'node/n2', 'node/n3', '']);
    const events = api.requests.filter(({ method, query }) => method === 'POST' || query.get('watch')).map(({ method }) => method);
    expect(events.join(' ')).toMatch(/^POST( GET)* POST( GET)* POST( GET)*$/);
  });

  test('stops at the first failure and says what was not done', async () => {
    api.play = (operation) =>
      setImmediate(() => api.set(operation.metadata?.name ?? '', { phase: operation.spec.nodeName === 'n2' ? 'Failed' : 'Succeeded' }));
    const { code, stdout, stderr } = await restart('n1', 'n2', 'n3', 'n4');
    expect(code).toBe(1);
    expect(stdout).toMatch(/^node\/n1 restarted .*\n$/);
    expect(stderr).toContain('not done: node/n3 node/n4 (2 of 4)\n');
    expect(api.posts().map(({ path }) => path.split('/')[5])).toEqual(['n1', 'n2']);
  });

  test('--max-unavailable holds: never more at once, and as many as allowed', async () => {
    api.play = () => undefined;
    const running = bench.start('kubectl-restart', [`--kubeconfig=${config}`, 'n1', 'n2', 'n3', 'n4', '--max-unavailable=50%']);
    const open = () => [...api.operations.values()].filter((operation) => operation.status?.phase === 'Pending');
    for (let left = 4; left > 0; left--) {
      await waitFor(() => open().length === Math.min(2, left) && api.watches() === Math.min(2, left), { what: `${left} to go` });
      expect(api.operations.size).toBe(Math.min(4, 6 - left));
      api.set(open()[0]?.metadata?.name ?? '', { phase: 'Succeeded' });
    }
    expect(await running.done).toMatchObject({ code: 0 });
  });

  test('an unknown node is found before anything is done', async () => {
    const { code, stderr } = await restart('n1', 'nope', 'n2', 'nada');
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'error: nodes "nope", "nada" not found: nothing was done\n' });
    expect(api.posts()).toHaveLength(0);
  });

  test('by label', async () => {
    api.nodes.push(node('blue1'), node('blue2'));
    expect(await restart('-lpool=blue', '-oname')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^nodeoperation.infraops.michael.io\/restart-blue1-\d+\nnodeoperation.infraops.michael.io\/restart-blue2-\d+\n$/,
      ),
    });
    expect(await restart('-l', 'pool=red')).toMatchObject({
      code: 1,
      stderr: 'error: no node matches the selector pool=red: nothing was done\n',
    });
  });

  test('--wait=false cannot keep --max-unavailable and is refused', async () => {
    expect(await restart('n1', 'n2', '--wait=false')).toMatchObject({ code: 2 });
    expect(await restart('n1', 'n2', '--wait=false', '--max-unavailable=2')).toMatchObject({ code: 0 });
    expect(api.posts()).toHaveLength(2);
  });
});
