import { expect, test, vi } from 'vitest';
import type { Child } from '../../src/agent/child/child.ts';
import { HEARTBEAT_TIMING, type Heartbeat, type HeartbeatOptions, keepReporting } from '../../src/agent/heartbeat/heartbeat.ts';
import type { Credential } from '../../src/agent/registration/store.ts';
import type { Connection } from '../../src/hub/clusters/connections.ts';
import { silence } from '../../src/hub/clusters/verdict.ts';
import { CLUSTERS_API, type ManagedCluster, type ManagedClusterStatus } from '../../src/kube/clusternet.ts';
import { cleanUp } from '../support/clean-up.ts';
import { type KubeApi, kubeApi } from '../support/kube-api.ts';

const { after } = cleanUp();
const COLLECTION = `${CLUSTERS_API}/namespaces/ns/managedclusters`;
const CLUSTER = `${COLLECTION}/edge`;
const CREDENTIAL: Credential = {
  clusterId: '6b0f9c53-2a0b-4b53-9d1f-0e7a5f3c1d2e',
  parentURL: '',
  token: 't',
  ca: '',
  namespace: 'ns',
  managedCluster: 'edge',
  obtainedAt: 0,
  expiresAt: undefined,
};

const TIMING = { probeMs: 20, gapMs: 5, retryMs: 5, aloneAfterMs: 20, aloneMs: 40 };

type World = {
  parent: KubeApi;
  child: KubeApi;
  refused: Credential[];
  healthy: Record<string, boolean>;
  begin(options?: Partial<HeartbeatOptions>): Heartbeat;
};

async function world(): Promise<World> {
  const [parent, child] = [await kubeApi(), await kubeApi()];
  after(() => Promise.all([parent.close(), child.close()]));
  parent.put(COLLECTION, { metadata: { name: 'edge' }, spec: { clusterId: CREDENTIAL.clusterId, syncMode: 'Pull' } });
  const healthy: World['healthy'] = { '/healthz': true, '/livez': true, '/readyz': true, '/version': true };
  child.fault(({ path }) => {
    if (path === '/version' && healthy[path]) return { code: 200, body: { gitVersion: 'v1.36.3', platform: 'linux/amd64' } };
    return path in healthy ? { code: healthy[path] ? 200 : 500, body: 'ok' } : undefined;
  });
  const refused: Credential[] = [];
  return {
    parent,
    child,
    refused,
    healthy,
    begin(options = {}) {
      const stop = new AbortController();
      after(() => stop.abort());
      return keepReporting({
        child: childOf(child),
        credential: () => CREDENTIAL,
        onCredential: () => undefined,
        refused: (credential) => refused.push(credential),
        parent: parent.client,
        heartbeatMs: 100_000,
        connected: () => true,
        ranges: { clusterCIDR: '', serviceCIDR: '' },
        signal: stop.signal,
        onError: () => undefined,
        timing: TIMING,
        ...options,
      });
    },
  };
}
const childOf = (api: KubeApi): Child => ({
  client: () => api.client,
  connection: () => ({ server: 'https://10.0.0.1:6443', ca: undefined, authorization: async () => undefined }),
});
const statusOf = (parent: KubeApi) => (parent.get(CLUSTER)?.status ?? {}) as ManagedClusterStatus;
const becomes = (parent: KubeApi, expected: object) =>
  vi.waitFor(() => expect(statusOf(parent)).toMatchObject(expected), { timeout: 20_000 });
const ready = (parent: KubeApi) => statusOf(parent).conditions?.find(({ type }) => type === 'Ready');
const node = (name: string, status: 'True' | 'False') => ({
  metadata: { name },
  status: { capacity: { cpu: '4', memory: '8Gi' }, allocatable: { cpu: '3', memory: '7Gi' }, conditions: [{ type: 'Ready', status }] },
});

test("the status has clusternet's fields, and follows nodes and health", async () => {
  const { parent, child, healthy, begin } = await world();
  child.put('/api/v1/nodes', node('a', 'True'));
  child.put('/apis/networking.k8s.io/v1/servicecidrs', { metadata: { name: 'kubernetes' }, spec: { cidrs: ['10.96.0.0/12'] } });
  child.put('/api/v1/namespaces/kube-system/configmaps', {
    metadata: { name: 'kubeadm-config' },
    data: { ClusterConfiguration: 'networking:\n  podSubnet: 10.244.0.0/16\n  serviceSubnet: 10.0.0.0/24\n' },
  });
  begin();
  await becomes(parent, {
    k8sVersion: 'v1.36.3',
    platform: 'linux/amd64',
    healthz: true,
    livez: true,
    readyz: true,
    apiserverURL: 'https://10.0.0.1:6443',
    useSocket: true,
    appPusher: false,
    heartbeatFrequencySeconds: 100,
    clusterCIDR: '10.244.0.0/16',
    serviceCIDR: '10.96.0.0/12',
    nodeStatistics: { readyNodes: 1, notReadyNodes: 0, unknownNodes: 0, lostNodes: 0 },
    capacity: { cpu: '4', memory: '8388608Ki' },
    allocatable: { cpu: '3', memory: '7340032Ki' },
  });
  expect(statusOf(parent).lastObservedTime).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  expect(ready(parent)).toMatchObject({ status: 'True', reason: 'ManagedClusterReady' });
  child.put('/api/v1/nodes', node('b', 'False'));
  await becomes(parent, { nodeStatistics: { readyNodes: 1, notReadyNodes: 1 }, capacity: { cpu: '8' } });
  Object.assign(healthy, { '/healthz': false, '/readyz': false });
  await becomes(parent, { healthz: false, readyz: false, livez: true });
  expect(ready(parent)).toMatchObject({ status: 'False', reason: 'ManagedClusterNotReady' });
  // What is not known at the moment keeps its last value.
  Object.assign(healthy, { '/livez': false, '/version': false });
  await becomes(parent, { livez: false, k8sVersion: 'v1.36.3' });
});

test('nothing is written while nothing changes, and again when the time has come', async () => {
  const { parent, begin } = await world();
  begin({ heartbeatMs: 300 });
  await becomes(parent, { healthz: true });
  const first = parent.count('PATCH', CLUSTER);
  await vi.waitFor(() => expect(parent.count('PATCH', CLUSTER)).toBeGreaterThan(first + 1), { timeout: 20_000 });
  const times = parent.seen.filter(({ method }) => method === 'PATCH').length;
  expect(times).toBeLessThan(50);
});

test('a beat is written although nothing changed: the hub may have given the cluster up', async () => {
  const { parent, begin } = await world();
  const heartbeat = begin();
  await becomes(parent, { healthz: true });
  await vi.waitFor(() => expect(heartbeat.written()).toBeDefined());
  const given = parent.get(CLUSTER);
  parent.put(COLLECTION, {
    ...given,
    status: {
      ...given?.status,
      healthz: false,
      conditions: [{ type: 'Ready', status: 'Unknown', reason: 'ClusterStatusUnknown', message: '', lastTransitionTime: 'then' }],
    },
  });
  heartbeat.beat();
  await becomes(parent, { healthz: true });
  expect(ready(parent)?.status).toBe('True');
  expect(ready(parent)?.lastTransitionTime).not.toBe('then');
});

test('conditions of others and the time of the last transition are kept, also against a writer at the same moment', async () => {
  const { parent, begin } = await world();
  const other = { type: 'TLSVerified', status: 'False', reason: 'Insecure', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' };
  const own = { type: 'Ready', status: 'True', reason: 'Old', message: '', lastTransitionTime: '2026-02-02T00:00:00Z' };
  let raced = false;
  parent.fault(({ method }) => {
    if (method !== 'PATCH' || raced) return undefined;
    raced = true;
    parent.put(COLLECTION, { ...parent.get(CLUSTER), status: { conditions: [own, other] } });
    return undefined;
  });
  begin();
  await becomes(parent, { healthz: true });
  expect(statusOf(parent).conditions).toHaveLength(2);
  expect(statusOf(parent).conditions).toContainEqual(other);
  expect(ready(parent)).toMatchObject({ reason: 'ManagedClusterReady', lastTransitionTime: own.lastTransitionTime });
});

test('a refused credential is reported, and writing goes on later', async () => {
  const { parent, refused, begin } = await world();
  const back = parent.fault(() => ({ code: 401 }));
  begin();
  await vi.waitFor(() => expect(refused.length).toBeGreaterThan(1));
  back();
  await becomes(parent, { healthz: true });
});

test('a machine without a cluster says so', async () => {
  const { parent, begin } = await world();
  begin({ child: { client: () => undefined, connection: () => undefined } });
  await becomes(parent, { healthz: false, livez: false, readyz: false, useSocket: true });
  expect(statusOf(parent).platform).toMatch(/^linux\/(amd64|arm64)$/);
  expect(statusOf(parent).agentVersion).toMatch(/^v\d/);
  expect(ready(parent)).toMatchObject({ status: 'False', reason: 'NoCluster' });
});

test('what a cluster said of itself does not stay when the cluster is gone', async () => {
  const { parent, child, begin } = await world();
  child.put('/api/v1/nodes', node('a', 'True'));
  let present = true;
  const { client, connection } = childOf(child);
  const heartbeat = begin({
    child: { client: () => (present ? client() : undefined), connection: () => (present ? connection() : undefined) },
    ranges: { clusterCIDR: '10.244.0.0/16', serviceCIDR: '10.96.0.0/12' },
  });
  await becomes(parent, { k8sVersion: 'v1.36.3', clusterCIDR: '10.244.0.0/16', nodeStatistics: { readyNodes: 1 } });
  present = false;
  heartbeat.look();
  await vi.waitFor(() => expect(ready(parent)?.reason).toBe('NoCluster'));
  const fields = Object.keys(statusOf(parent));
  for (const gone of ['k8sVersion', 'apiserverURL', 'clusterCIDR', 'serviceCIDR', 'nodeStatistics', 'allocatable', 'capacity'])
    expect(fields).not.toContain(gone);
  expect(statusOf(parent)).toMatchObject({ platform: expect.stringMatching(/^linux/), useSocket: true });
});

test('without a tunnel the status is written often and says so, and with one as before', async () => {
  const { parent, begin } = await world();
  let connected = true;
  const heartbeat = begin({ heartbeatMs: 60_000, connected: () => connected, timing: { ...TIMING, aloneMs: 1_000 } });
  await becomes(parent, { healthz: true, heartbeatFrequencySeconds: 60 });
  connected = false;
  heartbeat.look();
  await becomes(parent, { heartbeatFrequencySeconds: 1 });
  const before = statusOf(parent).lastObservedTime;
  await vi.waitFor(() => expect(statusOf(parent).lastObservedTime).not.toBe(before), { timeout: 20_000 });
  connected = true;
  heartbeat.beat();
  await becomes(parent, { heartbeatFrequencySeconds: 60 });
});

test("an agent that dies without a tunnel is Unknown within 30 s by the hub's own rule, and one that lives is not", () => {
  const HUB_S = 1;
  const { aloneAfterMs, aloneMs } = HEARTBEAT_TIMING;
  const ended = 1_000_000;
  const connection = { connected: false, since: new Date(ended) } as Connection;
  const status = { lastObservedTime: 'x', useSocket: true, heartbeatFrequencySeconds: aloneMs / 1_000 };
  const cluster = {
    metadata: { name: 'edge', resourceVersion: '1' },
    spec: { clusterId: 'c', syncMode: 'Pull' },
    status,
  } as ManagedCluster;
  const silent = (posted: number, now: number) =>
    silence(cluster, connection, { firstSeen: 0, posted }, { unknownAfterMs: 15_000, graceMs: 20_000 }, now);
  // The two ends may see the tunnel end 10 s apart; a round of probes takes 5 s more.
  for (const apart of [-10_000, 0, 10_000]) {
    const posts = Array.from({ length: 20 }, (_, at) => ended + apart + aloneAfterMs + at * aloneMs + 5_000);
    for (let now = ended; now < ended + 100_000; now += 500) {
      const posted = posts.findLast((at) => at <= now) ?? ended + apart - 60_000;
      if (apart <= 0) expect([apart, now - ended, silent(posted, now)]).toEqual([apart, now - ended, undefined]);
    }
    for (const last of posts) expect(silent(last, last + 30_000 - HUB_S * 1_000)).toMatchObject({ reason: 'ClusterStatusUnknown' });
  }
});
