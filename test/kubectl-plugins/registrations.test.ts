import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../../e2e/lab/wait.ts';
import { CLSRR, type ClusterApi, startClusterApi } from './cluster-api.ts';
import { type Workbench, workbench } from './plugin.ts';

let bench: Workbench;
let parent: ClusterApi;
let config: string;

beforeAll(async () => {
  bench = await workbench();
}, 60_000);
afterAll(() => bench.close());
beforeEach(async () => {
  parent = await startClusterApi();
  config = bench.kubeconfig(parent);
});
afterEach(() => parent.close());

const infra = (...args: string[]) => bench.run('kubectl-infra', [...args, `--kubeconfig=${config}`]);
const prefix = 'clusterregistrationrequest.clusters.clusternet.io/clusternet-';
const reason = (id: string) => parent.get(id)?.metadata.annotations?.['infraops.michael.io/decision-reason'];

describe('requests', () => {
  test('those that wait, with the reason; --all shows the others too', async () => {
    const waiting = parent.request('edge-1', { result: 'Pending', errorMessage: 'every cluster is approved by hand here' });
    const fresh = parent.request(undefined);
    const done = parent.request('edge-2', { result: 'Approved', dedicatedNamespace: 'clusternet-abcde', managedClusterName: 'edge-2' });
    const { code, stdout } = await infra('requests');
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^NAME +CLUSTER +STATUS +AGE +WHY$/);
    expect(lines).toHaveLength(3);
    expect(stdout).toMatch(new RegExp(`^clusternet-${waiting} +edge-1 +Pending +2m\\d+s +every cluster is approved by hand here$`, 'm'));
    expect(stdout).toMatch(new RegExp(`^clusternet-${fresh} +<none> +Pending +2m\\d+s +the hub has not looked at it yet$`, 'm'));
    const all = (await infra('requests', '--all', '-owide')).stdout;
    expect(all).toMatch(new RegExp(`^clusternet-${done} +edge-2 +${done} +<none> +Pull +clusternet-abcde +Approved `, 'm'));
    expect((await infra('requests', '-oname', '--all')).stdout.split('\n').filter(Boolean)).toHaveLength(3);
    expect((await infra('requests', '-oname')).stdout).not.toContain(done);
    // Named ones are shown whatever their state.
    expect(JSON.parse((await infra('requests', 'edge-2', '-ojson')).stdout)).toMatchObject({ spec: { clusterId: done } });
    expect(await infra('requests', 'edge-2', '--all')).toMatchObject({ code: 2 });
  });

  test('managedFields are left out, as by kubectl', async () => {
    const id = parent.request('edge-1');
    const request = parent.get(id);
    parent.api.put(CLSRR, { ...request, metadata: { ...request?.metadata, managedFields: [{ manager: 'x' }] } });
    const shown = JSON.parse((await infra('requests', id, '-ojson')).stdout) as { metadata: object };
    expect(Object.keys(shown.metadata)).toEqual(Object.keys(parent.get(id)?.metadata ?? {}).filter((key) => key !== 'managedFields'));
  });

  test('none', async () => {
    parent.request('edge-2', { result: 'Approved' });
    expect(await infra('requests')).toEqual({ code: 0, stdout: '', stderr: 'No resources found\n' });
  });

  test('-w shows what becomes of one that was shown, and nothing of others', async () => {
    const id = parent.request('edge-1');
    const other = parent.request('edge-2', { result: 'Approved' });
    const running = bench.start('kubectl-infra', ['requests', '-w', '--no-headers', `--kubeconfig=${config}`]);
    await waitFor(() => parent.api.watches() === 1, { what: 'the watch' });
    parent.request('edge-2', { result: 'Approved', renewal: 'x' }, other);
    parent.request('edge-1', { result: 'Denied', errorMessage: 'not ours' }, id);
    await waitFor(() => running.stdout().includes('not ours'), { what: 'the change' });
    running.child.kill('SIGINT');
    const { code, stdout } = await running.done;
    expect(code).toBe(0);
    expect(stdout.trimEnd().split('\n')).toHaveLength(2);
    expect(stdout).not.toContain(other);
  });

  test('a cluster cannot write to the terminal of who looks at it', async () => {
    parent.request('edge-1', { result: 'Pending', errorMessage: 'bad \u001b[2Jname\u009b31m\rhidden' });
    const { stdout } = await infra('requests');
    expect(stdout).toContain('bad ^[[2Jname\\x9b31m^Mhidden');
  });
});

describe('approve and deny', () => {
  test('by cluster name, by id and by the name of the request; done when the hub has carried it out', async () => {
    parent.hub(({ spec }) => ({ result: spec.decision ?? 'Pending', dedicatedNamespace: 'clusternet-abcde' }));
    const [a, b, c] = [parent.request('edge-1'), parent.request('edge-2'), parent.request('edge-3')];
    expect(await infra('approve', 'edge-1', b, `clsrr/clusternet-${c}`, '--reason=ticket 4711')).toEqual({
      code: 0,
      stderr: '',
      stdout: [a, b, c].map((id, at) => `${prefix}${id} approved (cluster edge-${at + 1}, namespace clusternet-abcde)\n`).join(''),
    });
    expect([a, b, c].map((id) => [parent.get(id)?.spec.decision, reason(id)])).toEqual(Array(3).fill(['Approved', 'ticket 4711']));
    expect(parent.writes()[0]).toMatchObject({
      method: 'PATCH',
      headers: { 'content-type': 'application/merge-patch+json', authorization: `Bearer ${parent.token}` },
      body: { metadata: { uid: parent.get(a)?.metadata.uid }, spec: { decision: 'Approved' } },
    });
    // A new decision does not keep the reason of the old one.
    expect(await infra('deny', 'cluster/edge-1', '-oname')).toEqual({ code: 0, stderr: '', stdout: `${prefix}${a}\n` });
    expect([parent.get(a)?.spec.decision, reason(a)]).toEqual(['Denied', undefined]);
  });

  test('approving a cluster that was let in and then denied says what its agent needs; one that never was in, or is in, needs nothing', async () => {
    parent.hub(({ spec }) => ({ result: spec.decision ?? 'Pending', dedicatedNamespace: 'clusternet-abcde' }));
    const denied = parent.request('edge-1', { result: 'Denied', dedicatedNamespace: 'clusternet-abcde' });
    parent.request('edge-2', { result: 'Denied' });
    const { code, stdout, stderr } = await infra('approve', 'edge-1', 'edge-2');
    expect([code, stdout.split('\n').length]).toEqual([0, 3]);
    expect(stderr).toMatch(new RegExp(`^clusternet-${denied}: .* make one and put it in place there: kubectl infra join-command\n$`));
    expect(await infra('approve', 'edge-1')).toMatchObject({ code: 0, stderr: '' });
  });

  test('a name that two clusters gave themselves is refused, and nothing is written', async () => {
    const [a, b] = [parent.request('edge-1'), parent.request('edge-1', { result: 'Denied' })];
    const sure = parent.request('edge-2');
    const { code, stdout, stderr } = await infra('approve', 'edge-2', 'edge-1');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^error: 2 clusters call themselves "edge-1": nothing was done/);
    expect(stderr).toContain(`clusternet-${a}   Pending`);
    expect(stderr).toContain(`clusternet-${b}   Denied`);
    expect(parent.writes()).toEqual([]);
    expect(parent.get(sure)?.spec.decision).toBeUndefined();
  });

  test('a cluster that calls itself like the id of another is not approved in its place', async () => {
    const awaited = randomUUID();
    parent.request(awaited);
    parent.request(`clusternet-${awaited}`);
    for (const word of [awaited, `clusternet-${awaited}`, `clsrr/clusternet-${awaited}`]) {
      expect(await infra('approve', word)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`no cluster with the id ${awaited} asked`),
      });
    }
    expect(parent.writes()).toEqual([]);
  });

  test('an unknown name among several: nothing is written', async () => {
    parent.request('edge-1');
    expect(await infra('approve', 'edge-1', 'nope')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no cluster "nope" asked to be registered'),
    });
    expect(parent.writes()).toEqual([]);
  });

  test('the hub refuses: its reason, and exit code 3', async () => {
    parent.hub(() => ({ result: 'Denied', errorMessage: 'another cluster has the name edge-1' }));
    const id = parent.request('edge-1', { result: 'Pending' });
    expect(await infra('approve', 'edge-1')).toEqual({
      code: 3,
      stdout: '',
      stderr: `error: clusternet-${id}: the hub refuses: another cluster has the name edge-1\n`,
    });
  });

  test('what stood there before the decision does not count as the answer', async () => {
    const id = parent.request('edge-1', { result: 'Denied', errorMessage: 'denied by hand' });
    const late = await infra('approve', 'edge-1', '--timeout=400ms');
    expect(late).toMatchObject({ code: 4, stdout: '', stderr: expect.stringContaining('the hub still says Denied: denied by hand') });
    const running = bench.start('kubectl-infra', ['approve', 'edge-1', `--kubeconfig=${config}`]);
    await waitFor(() => parent.api.watches() === 1, { what: 'the wait' });
    parent.api.endWatches();
    await waitFor(() => parent.api.watches() === 0, { what: 'the end of the watch' });
    await waitFor(() => parent.api.watches() === 1, { what: 'the wait again' });
    parent.api.put(CLSRR, { ...parent.get(id), status: { result: 'Approved' } });
    expect(await running.done).toMatchObject({ code: 0, stdout: `${prefix}${id} approved (cluster edge-1)\n` });
  });

  test('--wait=false, and Ctrl-C while waiting', async () => {
    const id = parent.request('edge-1');
    expect(await infra('deny', 'edge-1', '--wait=false')).toEqual({
      code: 0,
      stderr: '',
      stdout: `${prefix}${id} denied (cluster edge-1)\n`,
    });
    const running = bench.start('kubectl-infra', ['approve', 'edge-1', `--kubeconfig=${config}`]);
    await waitFor(() => parent.api.watches() === 1, { what: 'the wait' });
    running.child.kill('SIGINT');
    expect(await running.done).toMatchObject({ code: 4, stderr: expect.stringContaining('Approved is written, but interrupted') });
    expect(parent.get(id)?.spec.decision).toBe('Approved');
  });

  test('dry runs', async () => {
    const id = parent.request('edge-1');
    expect(await infra('approve', 'edge-1', '--dry-run=client')).toEqual({
      code: 0,
      stderr: '',
      stdout: `${prefix}${id} approved (cluster edge-1) (dry run)\n`,
    });
    expect(parent.writes()).toEqual([]);
    expect(await infra('approve', 'edge-1', '--dry-run=server')).toMatchObject({
      code: 0,
      stdout: `${prefix}${id} approved (cluster edge-1) (server dry run)\n`,
    });
    expect(parent.writes().map(({ query }) => query.get('dryRun'))).toEqual(['All']);
    expect(await infra('approve', 'edge-1', '--dry-run')).toMatchObject({ code: 2 });
  });

  test('one that may not be written does not keep the others', async () => {
    const [a, b] = [parent.request('edge-1'), parent.request('edge-2')];
    parent.api.fault(({ method, path }) =>
      method === 'PATCH' && path.endsWith(a)
        ? { code: 403, body: { kind: 'Status', code: 403, reason: 'Forbidden', message: 'not you' } }
        : undefined,
    );
    expect(await infra('approve', a, b, '--wait=false')).toEqual({
      code: 1,
      stdout: `${prefix}${b} approved (cluster edge-2)\n`,
      stderr: `error: clusternet-${a}: from server (Forbidden): not you\n`,
    });
  });

  test('who may read only one request can name it by its id', async () => {
    const id = parent.request('edge-1');
    parent.api.fault(({ path, query }) => (path === CLSRR && !query.get('fieldSelector') ? { code: 403 } : undefined));
    parent.hub(() => ({ result: 'Approved' }));
    expect(await infra('approve', id)).toMatchObject({ code: 0 });
  });

  test('mistakes in the command line, and a parent without the CRDs', async () => {
    expect(await infra('approve')).toMatchObject({ code: 2, stderr: expect.stringContaining('which cluster?') });
    expect(await infra('approve', 'node/n1')).toMatchObject({ code: 2 });
    expect(await infra('approve', 'a', '--timeout=0s')).toMatchObject({ code: 2 });
    expect(await infra('approve', 'a', '-owide')).toMatchObject({ code: 2 });
    parent.api.fault(() => ({ code: 404 }));
    for (const command of [['approve', 'a'], ['requests'], ['requests', '-oname']]) {
      expect(await infra(...command)).toMatchObject({ code: 1, stderr: expect.stringContaining('deploy/crds are not installed') });
    }
  });
});
