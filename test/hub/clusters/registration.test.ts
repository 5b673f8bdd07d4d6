import { describe, expect, test, vi } from 'vitest';
import { AGENT_ACCOUNT } from '../../../src/hub/clusters/names.ts';
import { CLUSTER_ID_LABEL, CLUSTERS_API, registrationName } from '../../../src/kube/clusternet.ts';
import { unseal } from '../../../src/tunnel/seal.ts';
import { cleanUp } from '../../support/clean-up.ts';
import type { KubeApi } from '../../support/kube-api.ts';
import { ask, change, hubProcess, ID, issueTokens, NAMESPACE, parentApi, REQUESTS, requestIn, requestPath } from './harness.ts';

const { after } = cleanUp();
const until = (condition: () => void) => vi.waitFor(condition, { timeout: 20_000, interval: 10 });
const OTHER = '99999999-2222-4333-8444-555555555555';
const EVENTS = '/apis/events.k8s.io/v1/namespaces/default/events';

async function parent(options?: Parameters<typeof hubProcess>[1]) {
  const api = await parentApi(after);
  issueTokens(api);
  const process = hubProcess(api, options);
  after(() => process.stop());
  return { api, process };
}
const result = async (api: KubeApi, wanted: string, id = ID) => {
  await until(() => expect(requestIn(api, id)?.status?.result).toBe(wanted));
  return requestIn(api, id)?.status ?? {};
};
const reasons = (api: KubeApi) => api.all(EVENTS).map((event) => event['reason']);

describe('approved', () => {
  test('the token is sealed to the key of the request and its id recorded', async () => {
    const { api, process } = await parent();
    const keys = ask(api, { spec: { renewal: 'r0' } });
    const status = await result(api, 'Approved');
    const token = unseal(keys, status.sealedToken ?? '', ID);
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { jti: string; path: string };
    expect(status).toMatchObject({
      credentialIDs: [`JTI=${claims.jti}`],
      renewal: 'r0',
      dedicatedNamespace: NAMESPACE,
      managedClusterName: 'edge',
    });
    expect(claims.path).toBe(`/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${AGENT_ACCOUNT}/token`);
    expect(Date.parse(status.tokenExpirationTimestamp ?? '') - Date.now()).toBeGreaterThan(3_500_000);
    await until(() => expect(process.clusters.sockets.find(ID)).toMatchObject({ id: ID, name: 'edge', namespace: NAMESPACE }));
    expect(await process.registry.metrics()).toContain('fairlead_hub_cluster_registrations_total{result="Approved"} 1');
    expect(await process.registry.metrics()).toContain('fairlead_hub_clusters_approved 1');
    expect(process.errors).toEqual([]);
  });

  test('credentials stand in no Event, no error and no memory of the room', async () => {
    const { api, process } = await parent();
    ask(api, { key: false });
    const { token } = await result(api, 'Approved');
    await until(() => expect(reasons(api)).toContain('PlainCredentials'));
    const jwt = Buffer.from(token ?? '', 'base64').toString();
    expect(jwt).toContain('e30.');
    const outside = JSON.stringify([api.all(EVENTS), process.errors, process.clusters.sockets.find(ID)]);
    expect(outside).not.toContain(jwt);
    expect(outside).not.toContain(token);
    expect(await process.registry.metrics()).toContain('fairlead_hub_plain_credentials_total 1');
  });

  test('a token that has ended is replaced, for an agent that was away', async () => {
    const { api } = await parent();
    ask(api);
    await result(api, 'Approved');
    const request = requestIn(api);
    api.put(REQUESTS, { ...request, status: { ...request?.status, tokenExpirationTimestamp: new Date().toISOString() } });
    await until(() => expect(requestIn(api)?.status?.credentialIDs).toHaveLength(2));
    expect(Date.parse(requestIn(api)?.status?.tokenExpirationTimestamp ?? '')).toBeGreaterThan(Date.now() + 3_000_000);
  });

  test('labels that are not the agent’s to choose are ours', async () => {
    const { api } = await parent();
    ask(api, { spec: { clusterLabels: { zone: 'a', [CLUSTER_ID_LABEL]: OTHER, 'kubernetes.io/x': 'y' } } });
    await result(api, 'Approved');
    const { labels } = api.get(`${CLUSTERS_API}/namespaces/${NAMESPACE}/managedclusters/edge`)?.metadata ?? {};
    expect(labels).toMatchObject({ zone: 'a', [CLUSTER_ID_LABEL]: ID });
    expect(labels).not.toHaveProperty('kubernetes.io/x');
  });

  test('the account of an earlier request of the same cluster is made anew', async () => {
    const { api, process } = await parent();
    ask(api);
    await result(api, 'Approved');
    const path = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${AGENT_ACCOUNT}`;
    const before = api.get(path)?.metadata.uid;
    await process.stop();
    // While nobody led, somebody deleted the request and the agent made it again.
    api.remove(requestPath(ID));
    ask(api);
    const next = hubProcess(api);
    after(() => next.stop());
    await result(api, 'Approved');
    expect(api.get(path)?.metadata.uid).not.toBe(before);
    expect(requestIn(api)?.status?.credentialIDs).toHaveLength(1);
  });
});

test('a namespace that lost its label is still the cluster’s; nothing is forgotten', async () => {
  const { api } = await parent();
  ask(api);
  await result(api, 'Approved');
  api.put('/api/v1/namespaces', { metadata: { name: NAMESPACE } });
  change(api, { renewal: 'r1' });
  await until(() => expect(requestIn(api)?.status?.renewal).toBe('r1'));
  expect(requestIn(api)?.status).toMatchObject({ result: 'Approved', dedicatedNamespace: NAMESPACE });
});

describe('denied, with a reason', () => {
  test.each([
    ['a name that is not the id’s', { metadata: { name: registrationName(OTHER) } }, OTHER, 'the name must be'],
    ['a key that is none', { spec: { sealingKey: 'AAAA' } }, ID, 'not an X25519'],
    ['a namespace of Kubernetes', { spec: { clusterNamespace: 'kube-system' } }, ID, 'belongs to Kubernetes'],
    ['a name that no object can have', { spec: { clusterName: '../x' } }, ID, 'spec.clusterName'],
  ])('%s', async (_what, options, id, why) => {
    const { api } = await parent();
    ask(api, options);
    expect((await result(api, 'Denied', id)).errorMessage).toContain(why);
    expect(api.all('/api/v1/namespaces')).toEqual([]);
  });

  test('a namespace of somebody else; one that a person has labelled for the cluster is taken, and stays at the end', async () => {
    const { api } = await parent();
    api.put('/api/v1/namespaces', { metadata: { name: 'shop' } });
    ask(api, { spec: { clusterNamespace: 'shop' } });
    expect((await result(api, 'Denied')).errorMessage).toContain('is not this cluster');
    expect(api.all('/api/v1/serviceaccounts')).toEqual([]);
    api.put('/api/v1/namespaces', { metadata: { name: 'shop', labels: { [CLUSTER_ID_LABEL]: ID } } });
    change(api, { decision: 'Approved' });
    expect((await result(api, 'Approved')).dedicatedNamespace).toBe('shop');
    api.remove(requestPath(ID));
    await until(() => expect(api.all('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings')).toEqual([]));
    await until(() => expect(api.all(`${CLUSTERS_API}/managedclusters`)).toEqual([]));
    expect(api.get('/api/v1/namespaces/shop')).toBeDefined();
  });

  test('the name of another cluster, also when both come at once', async () => {
    const { api } = await parent();
    ask(api);
    ask(api, { id: OTHER });
    await until(() => expect([ID, OTHER].map((id) => requestIn(api, id)?.status?.result).sort()).toEqual(['Approved', 'Denied']));
  });

  test('an id that a ManagedCluster elsewhere has', async () => {
    const { api } = await parent();
    api.put(`${CLUSTERS_API}/namespaces/elsewhere/managedclusters`, {
      metadata: { name: 'old' },
      spec: { clusterId: ID, syncMode: 'Pull' },
    });
    await until(() => expect(api.watches()).toBeGreaterThan(1));
    ask(api);
    expect((await result(api, 'Denied')).errorMessage).toContain('in namespace elsewhere');
  });
});

test('a person’s decision is above the policy, both ways', async () => {
  const { api, process } = await parent({ settings: { approval: { groups: [] } } });
  ask(api);
  expect((await result(api, 'Pending')).errorMessage).toContain(`kubectl infra approve ${registrationName(ID)}`);
  change(api, { decision: 'Approved' });
  await result(api, 'Approved');
  await until(() => expect(process.clusters.sockets.find(ID)).toBeDefined());
  const { metadata } = requestIn(api) ?? {};
  const annotations = { ...metadata?.annotations, 'infraops.michael.io/decision-reason': 'sold' };
  api.put(REQUESTS, { ...requestIn(api), metadata: { ...metadata, annotations } });
  change(api, { decision: 'Denied' });
  await until(() => expect(process.clusters.sockets.find(ID)).toBeUndefined());
  expect(await result(api, 'Denied')).toMatchObject({ credentialIDs: [], errorMessage: 'denied by an administrator: sold' });
  expect(api.all('/api/v1/serviceaccounts')).toEqual([]);
  // The agent asks on and on; that changes nothing.
  change(api, { renewal: 'please' });
  ask(api, { id: OTHER, spec: { clusterName: 'later', decision: 'Approved' } });
  await result(api, 'Approved', OTHER);
  expect(requestIn(api)?.status?.result).toBe('Denied');
});

test('what cannot be set up says so to the agent, and goes on when it can', async () => {
  const { api } = await parent();
  const stop = api.fault(({ method, path }) => (method === 'POST' && path.endsWith('/clusterroles') ? { code: 403 } : undefined));
  ask(api);
  expect((await result(api, 'Failed')).errorMessage).toContain('tries again');
  stop();
  await result(api, 'Approved');
});

test('a replica that does not lead changes nothing but the ids of credentials that are used', async () => {
  const { api } = await parent();
  ask(api);
  await result(api, 'Approved');
  change(api, { renewal: 'r1' });
  await until(() => expect(requestIn(api)?.status?.credentialIDs).toHaveLength(2));
  const follower = hubProcess(api, { lead: false });
  after(() => follower.stop());
  await until(() => expect(follower.clusters.sockets.find(ID)?.credentialIDs).toHaveLength(2));
  const [newest, older] = requestIn(api)?.status?.credentialIDs ?? [];
  const told: string[] = [];
  follower.clusters.sockets.onChange((id) => void told.push(id), new AbortController().signal);
  follower.clusters.sockets.opened(ID, older);
  follower.clusters.sockets.opened(ID, undefined);
  follower.clusters.sockets.opened(ID, newest);
  await until(() => expect(requestIn(api)?.status?.credentialIDs).toEqual([newest]));
  await until(() => expect(told).toEqual([ID]));
  expect(requestIn(api)?.status?.sealedToken).toBeDefined();
});
