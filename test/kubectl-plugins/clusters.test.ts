import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { waitFor } from '../../e2e/lab/wait.ts';
import { CLUSTERS, type ClusterApi, startClusterApi } from './cluster-api.ts';
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

test('clusters as the table of the server', async () => {
  parent.cluster('edge-1');
  const table = {
    kind: 'Table',
    columnDefinitions: [
      { name: 'Name', priority: 0 },
      { name: 'Connected', priority: 0 },
      { name: 'ID', priority: 1 },
    ],
    rows: [{ cells: ['edge-1', 'true', 'some-id'], object: { metadata: { name: 'edge-1' } } }],
  };
  parent.api.fault(({ headers }) => (String(headers.accept).includes('as=Table') ? { code: 200, body: table } : undefined));
  expect(await infra('clusters')).toEqual({ code: 0, stderr: '', stdout: 'NAME     CONNECTED\nedge-1   true\n' });
  expect((await infra('cluster', 'cluster/edge-1', '-owide')).stdout).toBe('NAME     CONNECTED   ID\nedge-1   true        some-id\n');
  expect(parent.api.seen.at(-1)?.path).toBe(`${CLUSTERS}/edge-1`);
});

test('clusters in the machine forms, by selector, and none', async () => {
  expect(await infra('clusters', '-oname')).toEqual({ code: 0, stderr: '', stdout: '' });
  parent.cluster('edge-1');
  expect((await infra('clusters', '-oname')).stdout).toBe('cluster.infraops.michael.io/edge-1\n');
  expect(JSON.parse((await infra('clusters', 'edge-1', '-ojson')).stdout)).toMatchObject({ kind: 'InfraCluster' });
  expect((await infra('clusters', '-lsite=bern', '-oname')).stdout).toBe('');
  expect(parent.api.seen.at(-1)?.query.get('labelSelector')).toBe('site=bern');
  expect(await infra('clusters', 'edge-1', '-lsite=bern')).toMatchObject({ code: 2 });
  expect(await infra('clusters', 'node/n1')).toMatchObject({ code: 2 });
  expect(await infra('clusters', 'nope', '-oname')).toMatchObject({ code: 1 });
});

test('-w with an id follows the cluster of that id', async () => {
  const id = parent.cluster('edge-1');
  const running = bench.start('kubectl-infra', ['clusters', id, '-w', '-ojsonpath={.status.connected}', `--kubeconfig=${config}`]);
  await waitFor(() => parent.api.watches() === 1, { what: 'the watch' });
  expect(parent.api.seen.at(-1)?.query.get('fieldSelector')).toBe('metadata.name=edge-1');
  parent.cluster('edge-2');
  parent.cluster('edge-1', { connected: false });
  await waitFor(() => running.stdout() === 'truefalse', { what: 'the change' });
  running.child.kill('SIGINT');
  expect(await running.done).toMatchObject({ code: 0 });
});

test('TAB: clusters with their connection, requests with their state', async () => {
  const complete = async (...args: string[]) => {
    const { code, stdout, stderr } = await bench.run('kubectl_complete-infra', args, { KUBECONFIG: config });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return stdout;
  };
  parent.cluster('edge-1');
  parent.cluster('edge-2', { connected: false, since: new Date(Date.now() - 3 * 3_600_000 - 500).toISOString(), version: '' });
  expect(await complete('clusters', '')).toBe('edge-1\tup 12 ms · v1.36.3\nedge-2\tagent gone 3h\n:4\n');
  expect(await complete('kubeconfig', 'cluster/edge-2')).toBe('cluster/edge-2\tagent gone 3h\n:4\n');
  expect(await complete('kubeconfig', 'edge-1', '-o', '')).toBe(':0\n');
  expect(await complete('kubeconfig', '--child-kubeconfig=')).toBe(':0\n');
  const [twice, alsoTwice] = [parent.request('twin'), parent.request('twin')];
  const done = parent.request('edge-1', { result: 'Approved' });
  const waiting = parent.request('edge-3');
  expect(await complete('approve', 'e')).toBe(`edge-3\tPending · clusternet-${waiting} · asked 2 min ago\n:4\n`);
  expect(await complete('approve', 'clusternet-')).toContain(`clusternet-${twice}\tPending · twin · asked 2 min ago\n`);
  expect(await complete('approve', `clusternet-${twice}`, 'clusternet-')).not.toContain(`clusternet-${twice}\t`);
  expect(await complete('approve', 'clusternet-')).toContain(`clusternet-${alsoTwice}\t`);
  expect(await complete('deny', 'edge-1')).toBe(`edge-1\tApproved · clusternet-${done} · asked 2 min ago\n:4\n`);
});
