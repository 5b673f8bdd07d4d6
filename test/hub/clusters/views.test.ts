import { PassThrough } from 'node:stream';
import { Value } from 'typebox/value';
import { describe, expect, test, vi } from 'vitest';
import { clusterColumns } from '../../../src/hub/clusters/columns.ts';
import type { InfraCluster } from '../../../src/hub/clusters/schema.ts';
import { InfraCluster as InfraClusterSchema } from '../../../src/hub/clusters/schema.ts';
import { parseTarget, requestInfo } from '../../../src/hub/http/request-info.ts';
import type { ResourceInfo } from '../../../src/hub/http/resource.ts';
import { routes } from '../../../src/hub/http/routes.ts';
import { toTable } from '../../../src/hub/http/table.ts';
import { CLUSTERS_API, registrationName } from '../../../src/kube/clusternet.ts';
import { StatusError } from '../../../src/kube/status.ts';
import { cleanUp } from '../../support/clean-up.ts';
import type { KubeApi } from '../../support/kube-api.ts';
import { hubProcess, ID, type Process, parentApi, REQUESTS } from './harness.ts';

const { after } = cleanUp();
const until = (condition: () => void) => vi.waitFor(condition, { timeout: 20_000, interval: 10 });
const OTHER = '99999999-2222-4333-8444-555555555555';
type List = { items: InfraCluster[]; metadata: { resourceVersion: string; continue?: string } };

async function parent(options?: Parameters<typeof hubProcess>[1]) {
  const api = await parentApi(after);
  const process = hubProcess(api, { lead: false, ...options });
  after(() => process.stop());
  return { api, process };
}

async function ask(process: Process, path: string): Promise<{ code: number; object: object; text: () => string }> {
  const target = parseTarget(`/apis/infraops.michael.io/v1${path}`);
  const info = requestInfo('GET', target) as ResourceInfo;
  const gone = new AbortController();
  after(() => gone.abort());
  try {
    const reply = await routes(process.clusters.resources)
      .find(info)
      .handler({
        info,
        user: { name: 'alice', uid: '', groups: [], extra: {} },
        query: target.query,
        headers: {},
        auditID: 'a',
        signal: gone.signal,
        body: async () => undefined,
        warn: () => undefined,
        annotate: () => undefined,
        allowed: async () => false,
      });
    if ('object' in reply) return { code: reply.code ?? 200, object: reply.object, text: () => '' };
    if (!('stream' in reply)) throw new Error('JSON text was not expected');
    let text = '';
    const output = new PassThrough().on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const response = Object.assign(output, { writeHead: () => response, flushHeaders: () => undefined, destroyed: false });
    reply.stream(undefined as never, response as never).catch(() => undefined);
    return { code: 200, object: {}, text: () => text };
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    return { code: error.status.code, object: error.status, text: () => '' };
  }
}

/** A cluster that is in, as the leader would have left it. */
function cluster(
  api: KubeApi,
  name: string,
  options: { id?: string; namespace?: string; born?: string; status?: object; annotations?: object; request?: object } = {},
) {
  const { id = ID, namespace = `ns-${id.slice(0, 4)}`, born = '2026-01-01T00:00:00Z' } = options;
  api.put(REQUESTS, {
    metadata: { name: registrationName(id) },
    spec: { clusterId: id },
    status: {
      result: 'Approved',
      dedicatedNamespace: namespace,
      managedClusterName: name,
      credentialIDs: ['JTI=1'],
      sealedToken: 'SECRET',
    },
    ...options.request,
  });
  api.put(`${CLUSTERS_API}/namespaces/${namespace}/managedclusters`, {
    metadata: { name, creationTimestamp: born, labels: { zone: name }, annotations: options.annotations },
    spec: { clusterId: id, clusterType: 'EdgeCluster', syncMode: 'Pull' },
    status: options.status,
  });
}
const posted = (ready: string) => ({
  lastObservedTime: '2026-02-01T00:00:00Z',
  k8sVersion: 'v1.36.3+k3s1',
  agentVersion: '0.1.0',
  apiserverURL: 'https://10.0.0.1',
  conditions: [{ type: 'Ready', status: ready, reason: 'r', message: 'why', lastTransitionTime: '2026-02-01T00:00:00Z' }],
});
const synced = async (process: Process, count: number) =>
  await until(() => {
    expect(process.clusters.checks['clusters']?.()).toBeUndefined();
    const known = [ID, OTHER].filter((id) => process.clusters.sockets.find(id));
    expect(known).toHaveLength(count);
  });

describe('clusters', () => {
  test('a list shows what agent and tunnel say, and fits its schema', async () => {
    const { api, process } = await parent({ settings: { directURL: 'https://hub:9443', directCA: () => 'PEM' } });
    cluster(api, 'edge', { status: posted('True') });
    await synced(process, 1);
    const since = new Date('2026-02-02T00:00:00Z');
    process.connections.set(ID, {
      connected: true,
      since,
      lastSeen: since,
      roundTripMs: 1.2345,
      agentVersion: '0.2.0',
      protocol: 'fairlead',
      tunnels: 2,
    });
    const list = (await ask(process, '/clusters')).object as List;
    expect(list.metadata.resourceVersion).toBe(api.version());
    expect(list.items).toMatchObject([
      {
        apiVersion: 'infraops.michael.io/v1',
        kind: 'InfraCluster',
        metadata: { name: 'edge', labels: { zone: 'edge' } },
        spec: { clusterID: ID, type: 'EdgeCluster', namespace: 'ns-1111', managedClusterName: 'edge' },
        status: {
          phase: 'Ready',
          version: 'v1.36.3+k3s1',
          distribution: 'k3s',
          agentVersion: '0.2.0',
          connected: true,
          since: since.toISOString(),
          roundTripMilliseconds: 1.23,
          tunnels: 2,
          directURL: 'https://hub:9443',
          directCA: Buffer.from('PEM').toString('base64'),
        },
      },
    ]);
    expect([...Value.Errors(InfraClusterSchema, list.items[0])]).toEqual([]);
    const [row] = toTable(clusterColumns, list).rows;
    expect(row?.cells.slice(0, 7)).toEqual(['edge', 'EdgeCluster', 'v1.36.3+k3s1', 'Ready', 'true', '1.23ms', '0.2.0']);
    expect(JSON.stringify(list)).not.toContain('SECRET');
  });

  test.each([
    ['Ready', {}, posted('True')],
    ['NotReady', {}, posted('False')],
    ['Unknown', {}, posted('Unknown')],
    ['Pending', {}, undefined],
    ['Denied', { request: { spec: { clusterId: ID, decision: 'Denied' } } }, posted('True')],
  ])('phase %s', async (phase, options, status) => {
    const { api, process } = await parent();
    cluster(api, 'edge', { ...options, ...(status && { status }) });
    await until(() => expect(process.clusters.sockets.synced()).toBe(true));
    await until(() => expect(api.watches()).toBe(2));
    const list = (await ask(process, '/clusters')).object as List;
    expect(list.items[0]?.status.phase).toBe(phase);
    expect(process.clusters.sockets.find(ID) === undefined).toBe(phase === 'Denied');
  });

  test('are found by name and by id; of two with one name the younger has its id for a name', async () => {
    const { api, process } = await parent();
    cluster(api, 'edge', { born: '2026-02-01T00:00:00Z' });
    cluster(api, 'edge', { id: OTHER, born: '2026-01-01T00:00:00Z' });
    await synced(process, 2);
    const list = (await ask(process, '/clusters')).object as List;
    expect(list.items.map(({ metadata, spec }) => [metadata?.name, spec.clusterID]).sort()).toEqual([
      [ID, ID],
      ['edge', OTHER],
    ]);
    const idOf = async (name: string) => ((await ask(process, `/clusters/${name}`)).object as InfraCluster).spec.clusterID;
    expect(await Promise.all(['edge', ID, OTHER].map(idOf))).toEqual([OTHER, ID, OTHER]);
    expect(await ask(process, '/clusters/none')).toMatchObject({
      code: 404,
      object: { reason: 'NotFound', details: { kind: 'clusters', name: 'none' } },
    });
  });

  test('selectors, limit and watch are those of the ManagedClusters', async () => {
    const { api, process } = await parent();
    cluster(api, 'edge');
    cluster(api, 'shop', { id: OTHER });
    await synced(process, 2);
    const names = async (query: string) =>
      ((await ask(process, `/clusters?${query}`)).object as List).items.map(({ metadata }) => metadata?.name);
    expect(await names('labelSelector=zone%3Dshop')).toEqual(['shop']);
    expect(await names('fieldSelector=metadata.name%3Dshop')).toEqual(['shop']);
    expect(await names(`fieldSelector=metadata.name%3D${OTHER}`)).toEqual(['shop']);
    expect(await names(`fieldSelector=spec.clusterID%3D${ID}`)).toEqual(['edge']);
    expect(await ask(process, '/clusters?fieldSelector=status.phase%3DReady')).toMatchObject({
      code: 400,
      object: { message: 'field label not supported: status.phase' },
    });
    const first = (await ask(process, '/clusters?limit=1')).object as List;
    expect(first.items).toHaveLength(1);
    expect(await names(`limit=1&continue=${encodeURIComponent(first.metadata.continue ?? '')}`)).toEqual(['shop']);
    const watch = await ask(process, '/clusters?watch=true');
    cluster(api, 'edge', { status: posted('False') });
    await until(() => expect(watch.text()).toContain('"phase":"NotReady"'));
  });

  test('without the CRDs there are none, nothing is reported as trouble, and the hub is ready', async () => {
    const { api, process } = await parent();
    await process.stop();
    api.fault(({ path }) => (path.startsWith(CLUSTERS_API) ? { code: 404 } : undefined));
    const bare = hubProcess(api, { lead: false });
    after(() => bare.stop());
    await until(() => expect(bare.clusters.checks['clusters']?.()).toBeUndefined());
    expect((await ask(bare, '/clusters')).object).toMatchObject({ kind: 'InfraClusterList', items: [] });
    expect((await ask(bare, '/clusters/edge')).code).toBe(404);
    expect((await ask(bare, '/clusters?watch=true&timeoutSeconds=1')).text()).toBe('');
    expect(bare.clusters.sockets.synced()).toBe(true);
    expect(bare.clusters.sockets.find(ID)).toBeUndefined();
    expect(bare.errors).toEqual([]);
  });
});

test('metrics count clusters that are in, and those with a tunnel', async () => {
  const { api, process } = await parent();
  cluster(api, 'edge');
  cluster(api, 'shop', { id: OTHER });
  await synced(process, 2);
  const seen = new Date();
  process.connections.set(ID, {
    connected: true,
    since: seen,
    lastSeen: seen,
    roundTripMs: 1,
    agentVersion: undefined,
    protocol: 'clusternet',
    tunnels: 1,
  });
  const text = await process.registry.metrics();
  expect(text).toContain('fairlead_hub_clusters_approved 2');
  expect(text).toContain('fairlead_hub_clusters_connected 1');
});
