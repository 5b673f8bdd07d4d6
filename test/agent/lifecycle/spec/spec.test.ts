import { expect, test } from 'vitest';
import type { Facts } from '../../../../src/agent/lifecycle/machine/machine.ts';
import { judgeCreate, judgePatch, judgeUpgrade } from '../../../../src/agent/lifecycle/service/judge.ts';
import { strictly } from '../../../../src/agent/lifecycle/service/steps.ts';
import { mergePatch } from '../../../../src/agent/lifecycle/spec/merge-patch.ts';
import { readBody, readSpec } from '../../../../src/agent/lifecycle/spec/read-body.ts';
import type { ClusterSpec } from '../../../../src/kube/lifecycle.ts';
import { StatusError } from '../../../../src/kube/status.ts';
import { littleDistribution } from '../support/little-distribution.ts';

const FACTS: Facts = {
  hostname: 'edge-1.example',
  architecture: 'amd64',
  os: { id: 'debian', version: '12' },
  cpus: 2,
  memoryBytes: 4e9,
  swap: false,
  cgroup: 2,
  mayRaiseLimits: true,
  addresses: ['192.0.2.10', '2001:db8::10'],
  initSystem: 'systemd',
  packageManager: 'apt',
  bootID: 'b',
};
const distributions = strictly((type) => (type === 'kubeadm' ? littleDistribution : undefined));
const create = (spec: Record<string, unknown>) => judgeCreate({ version: 'v1.35.4', ...spec }, distributions, FACTS);
const BEFORE: ClusterSpec = create({
  networking: { podSubnet: '10.42.0.0/16', svcSubnet: '10.43.0.0/16' },
  apiServer: { certSANs: ['a.example'] },
});

/** Code and the fields of the causes of what is thrown. */
function refusal(call: () => unknown): { code: number; fields: string[]; message: string } {
  try {
    call();
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    const { code, details, message } = error.status;
    return { code, fields: (details?.causes ?? []).map(({ field }) => field ?? ''), message: message ?? '' };
  }
  return { code: 0, fields: [], message: '' };
}

test('what is left out is filled in', () => {
  expect(create({})).toMatchObject({ clusterType: 'kubeadm', clusterName: 'edge-1', disableWorkloads: false });
});

test.each<[string, unknown, number, string]>([
  ['no object', [], 400, ''],
  ['a spec that is a text', { spec: 'x' }, 400, ''],
  ['an unknown field of the frame', { spek: {} }, 422, 'spek'],
  ['another kind', { kind: 'Pod', apiVersion: 'v1' }, 422, 'kind'],
  ['the version of another kind', { kind: 'Cluster', apiVersion: 'infraops.michael.io/v1' }, 422, 'apiVersion'],
  ['a version that nobody knows', { apiVersion: 'v2' }, 422, 'apiVersion'],
  ['metadata without end', { metadata: { a: 'x'.repeat(20_000) } }, 422, 'metadata'],
])('body refused: %s', (_what, body, code, field) => {
  const found = refusal(() => readBody(body));
  expect(found.code).toBe(code);
  if (field) expect(found.fields).toContain(field);
});

test('bodies of both kinds are taken, with the status that was read before', () => {
  expect(
    readBody({ apiVersion: 'v1alpha1', kind: 'Cluster', metadata: { a: 'b', n: 1 }, spec: { version: '1' }, status: { phase: 'x' } }),
  ).toEqual({ metadata: { a: 'b' }, spec: { version: '1' } });
  expect(
    readBody({ apiVersion: 'infraops.michael.io/v1', kind: 'ClusterLifecycle', metadata: { name: 'edge', labels: {} }, spec: {} }).metadata,
  ).toEqual({ name: 'edge' });
  expect(readBody({ spec: {} })).toEqual({ metadata: {}, spec: {} });
});

test.each<[string, Record<string, unknown>, number, string]>([
  ['a wrong type', { version: 1 }, 400, ''],
  ['an unknown field', { networking: { podSubnets: 'x' } }, 422, 'spec.networking.podSubnets'],
  ['another type of cluster', { clusterType: 'k0s' }, 422, 'spec.clusterType'],
  ['a type that this agent does not have', { clusterType: 'k3s' }, 422, 'spec.clusterType'],
  ['no version', { version: '' }, 422, 'spec.version'],
  ['a name with capitals', { clusterName: 'Edge' }, 422, 'spec.clusterName'],
  ['pods that are no range', { networking: { podSubnet: '10.42.0.0' } }, 422, 'spec.networking.podSubnet'],
  ['a range with bits behind its prefix', { networking: { podSubnet: '10.42.0.1/16' } }, 422, 'spec.networking.podSubnet'],
  ['ranges that overlap', { networking: { podSubnet: '10.0.0.0/8', svcSubnet: '10.96.0.0/12' } }, 422, 'spec.networking.svcSubnet'],
  [
    'ranges of IPv6 that overlap',
    { networking: { podSubnet: 'fd00::/48,10.0.0.0/16', svcSubnet: 'fd00:0:0:1::/112,10.1.0.0/16' } },
    422,
    'spec.networking.svcSubnet',
  ],
  ['two ranges of one family', { networking: { podSubnet: '10.0.0.0/16,10.1.0.0/16' } }, 422, 'spec.networking.podSubnet'],
  ['three ranges', { networking: { podSubnet: '10.0.0.0/16,fd00::/56,10.1.0.0/16' } }, 422, 'spec.networking.podSubnet'],
  [
    'families that differ',
    { networking: { podSubnet: '10.0.0.0/16,fd00::/56', svcSubnet: '10.1.0.0/16' } },
    422,
    'spec.networking.svcSubnet',
  ],
  ["the machine's own address in a range", { networking: { podSubnet: '192.0.2.0/24' } }, 422, 'spec.networking.podSubnet'],
  ['a manifest by http', { networking: { cniManifestURL: 'http://x/y' } }, 422, 'spec.networking.cniManifestURL'],
  ['a manifest that climbs', { networking: { cniManifestURL: 'file:///a/..%2f/b' } }, 422, 'spec.networking.cniManifestURL'],
  ['another driver of volumes', { storage: { clusterCsi: { name: 'ceph' } } }, 422, 'spec.storage.clusterCsi.name'],
  ['a SAN that is none', { apiServer: { certSANs: ['ok.example', 'a b'] } }, 422, 'spec.apiServer.certSANs[1]'],
  ['a validity that is none', { certificates: { validityPeriod: 'a year' } }, 422, 'spec.certificates.validityPeriod'],
  ['a validity of a second', { certificates: { validityPeriod: '1s' } }, 422, 'spec.certificates.validityPeriod'],
  [
    'certificates that outlive their CA',
    { certificates: { validityPeriod: '20h', caValidityPeriod: '10h' } },
    422,
    'spec.certificates.validityPeriod',
  ],
  ['an upgrade without patience', { upgrade: { componentTimeout: '5s' } }, 422, 'spec.upgrade.componentTimeout'],
  ['a patience that is none', { upgrade: { componentTimeout: 'long' } }, 422, 'spec.upgrade.componentTimeout'],
  ['an argument without component', { extraArgs: { v: '4' } }, 422, 'spec.extraArgs[v]'],
  ['an argument of two lines', { extraArgs: { 'kubelet.v': '4\nb' } }, 422, 'spec.extraArgs[kubelet.v]'],
  ['artifacts by http', { artifacts: { source: 'http://x' } }, 422, 'spec.artifacts.source'],
  ['artifacts with a signature', { artifacts: { source: 'https://x.example/k?X-Amz-Signature=hunter2' } }, 422, 'spec.artifacts.source'],
  ['artifacts with a fragment', { artifacts: { source: 'https://x.example/k#hunter2' } }, 422, 'spec.artifacts.source'],
  [
    'a manifest with a signature',
    { networking: { cniManifestURL: 'https://x.example/cni.yaml?sv=2&sig=hunter2' } },
    422,
    'spec.networking.cniManifestURL',
  ],
  ['artifacts of a relative folder', { artifacts: { source: 'a/b' } }, 422, 'spec.artifacts.source'],
  [
    'a registry without name',
    { clusterRuntime: { customiseClusterRuntime: true } },
    422,
    'spec.clusterRuntime.clusterCri.privateRegistryFQDN',
  ],
  [
    'a registry without TLS',
    { clusterRuntime: { clusterCri: { privateRegistryEndpoints: ['http://r'] } } },
    422,
    'spec.clusterRuntime.clusterCri.privateRegistryEndpoints[0]',
  ],
  [
    'a password in a URL',
    { clusterRuntime: { clusterCri: { privateRegistryEndpoints: ['https://u:hunter2@r'] } } },
    422,
    'spec.clusterRuntime.clusterCri.privateRegistryEndpoints[0]',
  ],
  [
    'a user without name',
    { clusterRuntime: { clusterCri: { registryAuth: { isAuthRequired: true, password: 'hunter2' } } } },
    422,
    'spec.clusterRuntime.clusterCri.registryAuth.username',
  ],
  [
    'a user without password',
    { clusterRuntime: { clusterCri: { registryAuth: { isAuthRequired: true, username: 'u' } } } },
    422,
    'spec.clusterRuntime.clusterCri.registryAuth.password',
  ],
  [
    'a password of two lines',
    { clusterRuntime: { clusterCri: { registryAuth: { isAuthRequired: true, username: 'u', password: 'hunter2\nx' } } } },
    422,
    'spec.clusterRuntime.clusterCri.registryAuth.password',
  ],
  [
    'a certificate file that climbs',
    { clusterRuntime: { clusterCri: { certFiles: ['/etc/../x'] } } },
    422,
    'spec.clusterRuntime.clusterCri.certFiles[0]',
  ],
])('create refused: %s', (_what, spec, code, field) => {
  const found = refusal(() => create(spec));
  expect(found.code).toBe(code);
  if (field) expect(found.fields).toEqual([field]);
  expect(found.message).not.toContain('hunter2');
});

test('everything that is wrong is told at once', () => {
  const { fields } = refusal(() => create({ clusterName: 'X', apiServer: { certSANs: ['-'] }, certificates: { validityPeriod: 'x' } }));
  expect(fields).toEqual(['spec.clusterName', 'spec.apiServer.certSANs[0]', 'spec.certificates.validityPeriod']);
});

test('a full spec of two families is taken', () => {
  const spec = {
    networking: { podSubnet: '10.42.0.0/16, fd42::/56', svcSubnet: '10.43.0.0/16,fd43::/112', cniManifestURL: 'file:///etc/cni.yaml' },
    apiServer: { certSANs: ['*.edge.example', '198.51.100.1', '2001:db8::1'] },
    certificates: { validityPeriod: '24h', caValidityPeriod: '8760h' },
    artifacts: { source: 'https://files.example/kubernetes' },
    extraArgs: { 'apiServer.audit-log-maxage': '3' },
    storage: { clusterCsi: { name: 'local-path' } },
  };
  expect(create(spec)).toMatchObject(spec);
});

test.each<[string, Record<string, unknown>, string[]]>([
  ['no version', {}, ['spec.version']],
  ['a version that is none', { version: 'latest' }, ['spec.version']],
  ['an older version', { version: 'v1.35.3' }, ['spec.version']],
  ['two minors on', { version: 'v1.37.0' }, ['spec.version']],
  ['another type', { version: 'v1.36.3', clusterType: 'k3s' }, ['spec.clusterType']],
  ['another name', { version: 'v1.36.3', clusterName: 'other' }, ['spec.clusterName']],
  ['another subnet', { version: 'v1.36.3', networking: { podSubnet: '10.50.0.0/16' } }, ['spec.networking.podSubnet']],
  ['what PATCH is for', { version: 'v1.36.3', disableWorkloads: true }, ['spec.disableWorkloads']],
  [
    'a password',
    { version: 'v1.36.3', clusterRuntime: { clusterCri: { registryAuth: { password: 'x' } } } },
    ['spec.clusterRuntime.clusterCri.registryAuth.password'],
  ],
])('PUT refused: %s', (_what, spec, fields) => {
  const found = refusal(() => judgeUpgrade(spec, BEFORE, distributions, FACTS));
  expect(found.code).toBe(422);
  expect(found.fields).toEqual(fields);
});

test('PUT keeps what it does not name, and the same version is nothing to do', () => {
  expect(judgeUpgrade({ version: '1.36.3' }, BEFORE, distributions, FACTS)).toEqual({ ...BEFORE, version: 'v1.36.3' });
  expect(judgeUpgrade({ ...BEFORE, version: 'v1.35.9' }, BEFORE, distributions, FACTS)?.version).toBe('v1.35.9');
  const upgrade = { componentTimeout: '90s' };
  expect(judgeUpgrade({ version: '1.36.3', upgrade }, BEFORE, distributions, FACTS)).toEqual({ ...BEFORE, version: 'v1.36.3', upgrade });
  expect(judgeUpgrade({ version: '1.35.4' }, BEFORE, distributions, FACTS)).toBeUndefined();
});

test.each<[string, Record<string, unknown>, string[]]>([
  ['the version', { version: 'v1.36.3' }, ['spec.version']],
  ['the name', { clusterName: 'other' }, ['spec.clusterName']],
  ['the type', { clusterType: 'k3s' }, ['spec.clusterType']],
  ['a subnet', { networking: { svcSubnet: '10.50.0.0/16' } }, ['spec.networking.svcSubnet']],
  ['a subnet by leaving it out', { networking: { podSubnet: null } }, ['spec.networking.podSubnet']],
  ['the life of the CA', { certificates: { caValidityPeriod: '99h' } }, ['spec.certificates.caValidityPeriod']],
  ['an unknown field', { networking: { x: 1 } }, ['spec.networking.x']],
])('PATCH refused: %s', (_what, spec, fields) => {
  const found = refusal(() => judgePatch(spec, BEFORE, distributions, FACTS));
  expect(found.code).toBe(422);
  expect(found.fields).toEqual(fields);
});

test('storage that was given is not taken away by PATCH, and may be given later', () => {
  const storage = { clusterCsi: { name: 'local-path', version: 'v0.0.32' } };
  for (const change of [{ storage: null }, { storage: { clusterCsi: null } }, { storage: { clusterCsi: { name: 'none' } } }]) {
    const found = refusal(() => judgePatch(change, { ...BEFORE, storage }, distributions, FACTS));
    expect([found.code, found.fields]).toEqual([422, ['spec.storage.clusterCsi.name']]);
  }
  expect(judgePatch({ storage }, BEFORE, distributions, FACTS)?.storage).toEqual(storage);
});

test('PATCH merges, null takes away, and what changes nothing is nothing to do', () => {
  expect(judgePatch({ apiServer: { certSANs: ['b.example'] } }, BEFORE, distributions, FACTS)).toEqual({
    ...BEFORE,
    apiServer: { certSANs: ['b.example'] },
  });
  expect(judgePatch({ apiServer: null }, BEFORE, distributions, FACTS)?.apiServer).toBeUndefined();
  expect(judgePatch({ apiServer: { certSANs: ['a.example'] } }, BEFORE, distributions, FACTS)).toBeUndefined();
});

test('a password that is kept is not the one that a caller names as its reference', () => {
  const auth = { isAuthRequired: true, username: 'u', password: 'file:/var/lib/x/registry-11111111-1111-1111-1111-111111111111' };
  const before: ClusterSpec = { ...BEFORE, clusterRuntime: { clusterCri: { privateRegistryFQDN: 'r', registryAuth: auth } } };
  const registryOf = (spec: ClusterSpec | undefined) => spec?.clusterRuntime?.clusterCri?.registryAuth;
  expect(registryOf(judgePatch({ disableWorkloads: true }, before, distributions, FACTS))).toEqual(auth);
  expect(
    registryOf(judgePatch({ clusterRuntime: { clusterCri: { registryAuth: { username: 'v' } } } }, before, distributions, FACTS)),
  ).toEqual({ ...auth, username: 'v' });
  expect(registryOf(judgePatch({ clusterRuntime: { clusterCri: { registryAuth: null } } }, before, distributions, FACTS))).toBeUndefined();
  expect(registryOf(judgeUpgrade({ version: 'v1.36.3' }, before, distributions, FACTS))).toEqual(auth);
});

// RFC 7396, appendix A.
test.each<[unknown, unknown, unknown]>([
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b' }, { a: null }, {}],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [
    ['a', 'b'],
    ['c', 'd'],
    ['c', 'd'],
  ],
  [{ a: 'b' }, ['c'], ['c']],
  [{ a: 'foo' }, null, null],
  [{ a: 'foo' }, 'bar', 'bar'],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: 'b', c: null }, { a: 'b' }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
])('merge patch: %j with %j is %j', (target, patch, result) => {
  expect(mergePatch(target, patch)).toEqual(result);
});

test('a patch cannot reach a prototype, nor end the process by its depth', () => {
  const merged = mergePatch({}, JSON.parse('{"__proto__":{"x":1}}')) as object;
  expect(({} as { x?: number }).x).toBeUndefined();
  expect(Object.hasOwn(merged, '__proto__')).toBe(true);
  const deep = JSON.parse(`${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`) as Record<string, unknown>;
  expect(refusal(() => judgePatch({ networking: deep }, BEFORE, distributions, FACTS))).toMatchObject({ code: 422 });
  expect(refusal(() => readSpec({ extraArgs: deep })).code).toBe(400);
});
