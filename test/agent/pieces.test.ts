import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { backoff, retryAfterMs } from '../../src/agent/backoff.ts';
import { clusterIdOf, machineClusterId } from '../../src/agent/child/cluster-id.ts';
import { nodeSummary, sumNodes } from '../../src/agent/heartbeat/nodes.ts';
import { formatBytes, formatCores, parseQuantity } from '../../src/agent/heartbeat/quantity.ts';
import { bootstrapToken } from '../../src/agent/registration/bootstrap-token.ts';
import { fileStore } from '../../src/agent/registration/file-store.ts';
import { KEY_SECRET, secretStore } from '../../src/agent/registration/secret-store.ts';
import type { Credential } from '../../src/agent/registration/store.ts';
import { tokenTimes } from '../../src/agent/registration/token.ts';
import { sealingKeys } from '../../src/tunnel/seal.ts';
import { cleanUp } from '../support/clean-up.ts';
import { kubeApi } from '../support/kube-api.ts';

const { after, signal } = cleanUp();

async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'agent-'));
  after(() => rm(made, { recursive: true, force: true }));
  return made;
}
async function api() {
  const made = await kubeApi();
  after(() => made.close());
  return made;
}
const CREDENTIAL: Credential = {
  clusterId: '6b0f9c53-2a0b-4b53-9d1f-0e7a5f3c1d2e',
  parentURL: 'https://parent:6443',
  token: 'a.b.c',
  ca: 'PEM',
  namespace: 'clusternet-x',
  managedCluster: 'edge',
  obtainedAt: 1_000,
  expiresAt: 3_601_000,
};

test.each([
  ['100m', 0.1],
  ['8', 8],
  ['7910m', 7.91],
  ['32Gi', 34_359_738_368],
  ['129e6', 129_000_000],
  ['1.5k', 1_500],
  ['', undefined],
  ['8 Gi', undefined],
  ['Gi', undefined],
])('the quantity %s is %s', (text, value) => {
  if (value === undefined) expect(parseQuantity(text)).toBeUndefined();
  else expect(parseQuantity(text)).toBeCloseTo(value, 6);
});

test('sums of nodes come out as quantities, and each node counts once', () => {
  const node = (ready: string | undefined, cpu: string, memory: string) =>
    nodeSummary({
      metadata: { name: 'n', resourceVersion: '1' },
      status: {
        allocatable: { cpu, memory },
        capacity: { cpu: '4', memory: '8Gi' },
        conditions: ready ? [{ type: 'Ready', status: ready }] : [],
      },
    });
  const nodes = [node('True', '3920m', '7Gi'), node('False', '4', '1'), node('Unknown', '4', '0'), node(undefined, '80m', '0')];
  expect(sumNodes(nodes)).toEqual({
    nodeStatistics: { readyNodes: 1, notReadyNodes: 1, unknownNodes: 1, lostNodes: 1 },
    allocatable: { cpu: '12', memory: '7516192769' },
    capacity: { cpu: '16', memory: '33554432Ki' },
  });
  expect([formatCores(0.1), formatBytes(0)]).toEqual(['100m', '0']);
});

test('the id of a cluster is the uid of its Lease, which stays, and an id from before wins', async () => {
  const child = await api();
  const first = await clusterIdOf(child.client, 'ns', signal());
  expect(first).toBe(child.get('/apis/coordination.k8s.io/v1/namespaces/ns/leases/clusternet-agent')?.metadata.uid);
  expect(await clusterIdOf(child.client, 'ns', signal())).toBe(first);
  child.put('/apis/coordination.k8s.io/v1/namespaces/ns/leases', {
    metadata: { name: 'clusternet-agent', annotations: { 'legacy-cluster-id': CREDENTIAL.clusterId } },
  });
  expect(await clusterIdOf(child.client, 'ns', signal())).toBe(CREDENTIAL.clusterId);
});

test('a namespace that is missing is created for the Lease', async () => {
  const child = await api();
  child.fault(({ method, path }) =>
    method === 'POST' && path.endsWith('/leases') && !child.get('/api/v1/namespaces/ns') ? { code: 404 } : undefined,
  );
  expect(await clusterIdOf(child.client, 'ns', signal())).toMatch(/^[0-9a-f-]{36}$/);
  expect(child.get('/api/v1/namespaces/ns')).toBeDefined();
});

test('the id of a machine is a UUID, the same each time, and not the machine id itself', async () => {
  const file = join(await folder(), 'machine-id');
  await writeFile(file, '0123456789abcdef0123456789abcdef\n');
  const id = await machineClusterId(file);
  expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(await machineClusterId(file)).toBe(id);
  expect(id.replaceAll('-', '')).not.toContain('0123456789abcdef');
  await writeFile(file, 'uninitialized\n');
  await expect(machineClusterId(file)).rejects.toThrow('hexadecimal');
  await expect(machineClusterId(`${file}.gone`)).rejects.toThrow('systemd-machine-id-setup');
});

test('files hold credentials for their owner only, whole, and keys are not replaced', async () => {
  const place = join(await folder(), 'state');
  const store = fileStore(place);
  expect(await store.credential()).toBeUndefined();
  expect(await store.keys()).toBeUndefined();
  await store.saveCredential(CREDENTIAL);
  await store.saveCredential({ ...CREDENTIAL, token: 'new' });
  expect(await store.credential()).toEqual({ ...CREDENTIAL, token: 'new' });
  const keys = sealingKeys();
  expect(await store.saveKeys(keys)).toEqual(keys);
  expect(await store.saveKeys(sealingKeys())).toEqual(keys);
  expect((await readdir(place)).sort()).toEqual(['credential.json', 'key.json']);
  expect((await stat(place)).mode & 0o777).toBe(0o700);
  for (const file of ['credential.json', 'key.json']) expect((await stat(join(place, file))).mode & 0o777).toBe(0o600);
});

test('a file that somebody damaged is named, without what it holds', async () => {
  const place = await folder();
  await writeFile(join(place, 'credential.json'), 'secret-token{');
  const failure = fileStore(place).credential();
  await expect(failure).rejects.toThrow('credential.json');
  await expect(failure).rejects.not.toThrow('secret-token');
});

test('Secrets have the names, keys and labels of clusternet, and keys are not replaced', async () => {
  const child = await api();
  const store = secretStore(() => child.client, 'ns');
  expect(await store.credential()).toBeUndefined();
  await store.saveCredential({ ...CREDENTIAL, expiresAt: undefined });
  await store.saveCredential(CREDENTIAL);
  expect(await store.credential()).toEqual(CREDENTIAL);
  const secret = child.get('/api/v1/namespaces/ns/secrets/parent-cluster');
  expect(secret?.metadata.labels).toMatchObject({
    'clusters.clusternet.io/bootstrapping': 'credentials-auto',
    'clusters.clusternet.io/cluster-id': CREDENTIAL.clusterId,
    'clusters.clusternet.io/cluster-name': 'edge',
  });
  const text = (key: string) => Buffer.from(secret?.data?.[key] ?? '', 'base64').toString();
  expect([text('token'), text('ca.crt'), text('namespace'), text('apiserver-advertise-url')]).toEqual([
    'a.b.c',
    'PEM',
    'clusternet-x',
    'https://parent:6443',
  ]);
  const keys = sealingKeys();
  expect(await store.saveKeys(keys)).toEqual(keys);
  expect(await store.saveKeys(sealingKeys())).toEqual(keys);
  expect(child.get(`/api/v1/namespaces/ns/secrets/${KEY_SECRET}`)).toBeDefined();
});

test('what a clusternet agent left is read', async () => {
  const child = await api();
  const data = Object.fromEntries(
    Object.entries({ token: 't', 'ca.crt': 'c', namespace: 'n', 'apiserver-advertise-url': 'https://p' }).map(([key, value]) => [
      key,
      Buffer.from(value).toString('base64'),
    ]),
  );
  child.put('/api/v1/namespaces/ns/secrets', { metadata: { name: 'parent-cluster' }, data });
  expect(await secretStore(() => child.client, 'ns').credential()).toMatchObject({
    token: 't',
    ca: 'c',
    namespace: 'n',
    parentURL: 'https://p',
    clusterId: '',
    expiresAt: undefined,
  });
});

test('the bootstrap token is read anew each time, and a missing file is none', async () => {
  const file = join(await folder(), 'token');
  const read = bootstrapToken({ file, token: '' });
  expect(await read()).toBeUndefined();
  await writeFile(file, 'one\n');
  expect(await read()).toBe('one');
  await writeFile(file, 'two\n');
  expect(await read()).toBe('two');
  expect(await bootstrapToken({ file: '', token: 'given' })()).toBe('given');
});

test('times of a token come from its claims, and other text has none', () => {
  const token = `x.${Buffer.from(JSON.stringify({ iat: 100, exp: 3_700 })).toString('base64url')}.y`;
  expect(tokenTimes(token)).toEqual({ issuedAt: 100_000, expiresAt: 3_700_000 });
  for (const other of ['', 'abc', 'a.b.c', `a.${Buffer.from('[]').toString('base64url')}.c`]) expect(tokenTimes(other)).toBeUndefined();
});

test('pauses double up to their limit, are a part of it, and end when the signal is aborted', async () => {
  const parts: number[] = [];
  const paused = backoff(1, 4, () => {
    parts.push(parts.length);
    return 0;
  });
  for (let turn = 0; turn < 5; turn++) await paused.pause(signal());
  expect(parts).toHaveLength(5);
  const stop = new AbortController();
  const long = backoff(1_000_000, 1_000_000, () => 1).pause(stop.signal);
  stop.abort();
  await long;
});

test('Retry-After is seconds or a date, and no more than five minutes', () => {
  expect([retryAfterMs('7'), retryAfterMs('9999'), retryAfterMs(undefined), retryAfterMs('soon'), retryAfterMs('-1')]).toEqual([
    7_000, 300_000, 0, 0, 0,
  ]);
  expect(retryAfterMs('Wed, 21 Oct 2015 07:28:05 GMT', Date.parse('2015-10-21T07:28:00Z'))).toBe(5_000);
});
