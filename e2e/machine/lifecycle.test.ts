import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { verifyChain } from '../../src/kube/audit-chain.ts';
import type { AuditEntry } from '../../src/kube/lifecycle.ts';
import { type ArtifactServer, serveArtifacts } from '../lab/artifact-server.ts';
import { artifactsFolder } from '../lab/artifacts.ts';
import { createAuthority } from '../lab/certificates.ts';
import { createLabFolder } from '../lab/folders.ts';
import type { MachineState } from '../lab/machine/state.ts';
import { type Registry, startRegistry } from '../lab/registry.ts';
import { toolsFolderWith } from '../lab/tools.ts';
import { waitFor } from '../lab/wait.ts';
import { brokenArtifacts } from './broken-artifacts.ts';
import { ARTIFACTS, CLUSTER, type Lifecycle, type MachineEnv, startMachineEnv } from './env.ts';
import { followedWhile, writtenAfterSnapshot } from './meanwhile.ts';
import { leftSince, OPERATION_MS, onMachines, stateOf } from './on-machines.ts';

const OLD = 'v1.35.4';
const NEW = 'v1.36.3';
const BROKEN = '/opt/broken-artifacts';

/** Signs the certificates of the registry and of the server of artifacts. */
const authority = createAuthority('fairlead-lab-supply-ca');
const CA_FILE = '/etc/fairlead-supply-ca.crt';
let env: MachineEnv;
/** Before the first cluster, with the agent there and registered. */
let pristine: MachineState;

const teardown = onMachines(async (teardown) => {
  const broken = await brokenArtifacts(NEW);
  teardown.defer(broken.remove);
  env = await startMachineEnv({
    dualStack: true,
    binds: [{ source: broken.folder, target: BROKEN }],
    files: { [CA_FILE]: authority.certificate },
    flags: [`--target-ca-file=${CA_FILE}`],
  });
  teardown.defer(env.stop);
});

const spec = (more = '') => `apiVersion: v1alpha1
kind: Cluster
spec:
  clusterType: kubeadm
  version: ${OLD}
  networking:
    podSubnet: 10.244.0.0/16
    svcSubnet: 10.245.0.0/16
  apiServer:
    certSANs: [edge-1.example.com]
  certificates:
    validityPeriod: 24h
${more}`;

/** Everything that a machine needs for a new cluster, where others have it: images in a registry that wants a password, the rest at a URL. */
async function supply(): Promise<{ registry: Registry; server: ArtifactServer }> {
  const [folder, bin] = [await artifactsFolder(), await toolsFolderWith('registry')];
  const place = createLabFolder();
  teardown.defer(place.remove);
  const registry = await startRegistry({ bin, dir: join(place.path, 'registry'), address: env.machine.host, authority });
  teardown.defer(registry.stop);
  const images = join(folder, 'kubernetes', NEW, 'images');
  for (const archive of readdirSync(images)) await registry.push(join(images, archive));
  const server = await serveArtifacts({ folder, without: /\/images\//, address: env.machine.host, authority });
  teardown.defer(server.stop);
  return { registry, server };
}

const dualStackSpec = (registry: Registry, server: ArtifactServer) => `apiVersion: v1alpha1
kind: Cluster
spec:
  version: ${NEW}
  networking: {podSubnet: "10.244.0.0/16,fd00:10:244::/56", svcSubnet: "10.245.0.0/16,fd00:10:245::/112"}
  artifacts: {source: "${server.url}"}
  clusterRuntime:
    customiseClusterRuntime: true
    clusterCri:
      privateRegistryFQDN: "${registry.host}"
      certFiles: [${CA_FILE}]
      registryAuth: {isAuthRequired: true, username: ${registry.username}, password: "${registry.password}"}
`;

/** Waits until the pod `two` answers the pod `caller` at an address: rules of a new Service take a moment. */
const greeted = (address: string) =>
  waitFor(async () => (await env.inside(['exec', 'caller', '--', '/hello', 'get', address, '8080'])).includes('hello from two'), {
    what: `an answer of ${address}`,
  });

const infra = (...args: string[]) => env.ok(['infra', ...args]);
/** What the API server shows to who connects to it. */
const served = async () =>
  new X509Certificate(await env.machine.run(['sh', '-c', 'echo | openssl s_client -connect 127.0.0.1:6443 2>/dev/null | openssl x509']));
const condition = ({ status }: Lifecycle, type: string) => status.conditions?.find((one) => one.type === type);

async function create(): Promise<void> {
  await env.ok(['infra', 'lifecycle', 'create', CLUSTER, '-f', '-', '--timeout=15m'], { input: spec() });
}

/** Waits until the running operation has ended, and returns what it became. */
async function ended(): Promise<Lifecycle> {
  return await waitFor(
    async () => {
      const now = await env.lifecycle();
      const phase = now.status.operation?.phase;
      return (phase === 'Succeeded' || phase === 'Failed') && now;
    },
    { what: 'the operation to end', timeout: OPERATION_MS, interval: 1_000 },
  );
}

/** Waits until the operation is in a step whose name matches. */
async function inStep(name: RegExp): Promise<void> {
  const found = await waitFor(
    async () => {
      const { operation } = (await env.lifecycle()).status;
      if (operation?.phase !== 'Running') return { ended: operation?.message ?? operation?.phase };
      return operation.steps.some((step) => name.test(step.name) && step.state === 'Running') && { ended: undefined };
    },
    { what: `the operation to be in the step ${name}`, timeout: OPERATION_MS, interval: 200 },
  );
  if (found.ended !== undefined) throw new Error(`the operation ended before: ${found.ended}`);
}

async function nodeReady(version: string): Promise<void> {
  await waitFor(
    async () => {
      const { items } = JSON.parse(await env.inside(['get', 'nodes', '-o', 'json'])) as {
        items: { status: { nodeInfo: { kubeletVersion: string }; conditions: { type: string; status: string }[] } }[];
      };
      const [node] = items;
      return (
        items.length === 1 &&
        node?.status.nodeInfo.kubeletVersion === version &&
        node.status.conditions.some(({ type, status }) => type === 'Ready' && status === 'True')
      );
    },
    { what: `the node to be Ready with ${version}, seen through the tunnel`, timeout: 180_000, interval: 1_000 },
  );
}

describe('a machine becomes a cluster, through the tunnel', () => {
  test('it joined by what join-command printed, and has no cluster yet', async () => {
    await env.connected();
    expect((await env.lifecycle()).status).toMatchObject({ phase: 'NotInitialised' });
    expect(await infra('clusters')).toContain(CLUSTER);
    pristine = await stateOf(env.machine);
  });

  test('a wrong spec is refused with its fields, and nothing happens', async () => {
    const { code, stderr } = await env.kubectl(['infra', 'lifecycle', 'create', CLUSTER, '-f', '-'], {
      input: spec().replace('10.245.0.0/16', '10.244.128.0/17').replace('clusterType:', 'clusterTyp:'),
    });
    expect(code).not.toBe(0);
    expect(stderr).toContain('spec.clusterTyp');
    expect((await env.lifecycle()).status.phase).toBe('NotInitialised');
  });

  test('a dry run says every command and file, and changes nothing', async () => {
    const said = await env.ok(['infra', 'lifecycle', 'create', CLUSTER, '-f', '-', '--dry-run=server'], { input: spec() });
    expect(said).toContain('kubeadm init');
    expect(said).toContain('/etc/cni/net.d');
    expect(await leftSince(pristine, env.machine)).toEqual([]);
  });

  test('create: its log is followed meanwhile, the node is Ready, a pod runs, and kubectl reaches it through the parent', {
    timeout: OPERATION_MS,
  }, async () => {
    await followedWhile(env, ['binaries', 'images', 'control-plane'], create);
    const { status } = await env.lifecycle();
    expect(status).toMatchObject({ phase: 'Provisioned', kubernetesVersion: OLD, operation: { type: 'Install', phase: 'Succeeded' } });
    expect(status.operation?.requestedBy).toBe('fairlead-admin');
    // Nobody of the parent has rights in a new cluster.
    await waitFor(
      async () => {
        const refused = await env.inside(['get', 'pods']).catch((error: Error) => error.message);
        return refused.includes('User "fairlead-admin" cannot list resource "pods"') || Promise.reject(new Error(refused));
      },
      { what: 'the new cluster to refuse somebody without rights' },
    );
    await env.grantInside();
    await nodeReady(OLD);
    await env.inside(['run', 'hello', '--image=fairlead.test/hello:1', '--image-pull-policy=Never', '--port=8080']);
    await env.inside(['wait', '--for=condition=Ready', 'pod/hello', '--timeout=120s']);
    expect(await env.inside(['exec', 'hello', '--', '/hello', 'get', 'localhost', '8080'])).toContain('hello from hello');
    expect(await env.inside(['logs', 'hello'])).toContain('listens on :8080');
    await env.inside(['create', 'configmap', 'kept', '--from-literal=a=b']);
  });

  test('an operation is refused while there is a cluster already, and a version out of reach', async () => {
    const again = await env.kubectl(['infra', 'lifecycle', 'create', CLUSTER, '-f', '-'], { input: spec() });
    expect(again.code).not.toBe(0);
    const { code, stderr } = await env.kubectl(['infra', 'lifecycle', 'upgrade', CLUSTER, '--version=v1.38.0']);
    expect(code).not.toBe(0);
    expect(stderr).toContain('spec.version');
  });

  test('patch: another name in the certificate of the API server, and no workloads', { timeout: OPERATION_MS }, async () => {
    const named = ['--set', 'apiServer.certSANs=edge-1.example.com,edge-2.example.com'];
    await infra('lifecycle', 'patch', CLUSTER, ...named, '--set', 'disableWorkloads=true', '--timeout=10m');
    expect((await served()).subjectAltName).toMatch(/DNS:edge-1\.example\.com.*DNS:edge-2\.example\.com/);
    await waitFor(async () => (await env.lifecycle()).status.unschedulable === true, { what: 'the node to be cordoned' });
    await infra('lifecycle', 'patch', CLUSTER, '--set', 'disableWorkloads=false', '--timeout=10m');
    await waitFor(async () => (await env.lifecycle()).status.unschedulable !== true, { what: 'the node to be schedulable again' });
  });

  test('rotate: certificates of a day are new afterwards, and served', { timeout: OPERATION_MS }, async () => {
    const before = await served();
    expect(await infra('certs', CLUSTER)).toContain('apiserver');
    await infra('certs', CLUSTER, '--rotate', '--timeout=10m');
    const after = await served();
    expect(after.serialNumber).not.toBe(before.serialNumber);
    expect(after.serialNumber).toBe(new X509Certificate(await env.machine.readFile('/etc/kubernetes/pki/apiserver.crt')).serialNumber);
    // kubeadm takes the begin from the CA, which is as old as the cluster.
    const hours = (after.validToDate.getTime() - after.validFromDate.getTime()) / 3_600_000;
    expect(hours).toBeGreaterThan(23.5);
    expect(hours).toBeLessThan(25);
    await nodeReady(OLD);
  });

  test('restart-machine ends when the machine is back with a new boot id and the node Ready', { timeout: OPERATION_MS }, async () => {
    const before = await env.machine.bootId();
    await infra('restart-machine', CLUSTER, '--timeout=10m');
    expect(await env.machine.bootId()).not.toBe(before);
    await nodeReady(OLD);
    expect(await env.inside(['get', 'configmap', 'kept', '-o', 'jsonpath={.data.a}'])).toBe('b');
  });

  test('R64: an upgrade to an image that does not run is undone: etcd is as it was, the old version runs', {
    timeout: OPERATION_MS,
  }, async () => {
    const upgrade = env.kubectl([
      'infra',
      'lifecycle',
      'upgrade',
      CLUSTER,
      `--version=${NEW}`,
      '--set',
      `artifacts.source=${BROKEN}`,
      // kubeadm would wait five minutes for what never comes up.
      '--set',
      'upgrade.componentTimeout=90s',
      '--timeout=15m',
    ]);
    const [{ code, stderr }] = await Promise.all([upgrade, writtenAfterSnapshot(env, 'lost')]);
    expect(code).not.toBe(0);
    expect(stderr).toContain('upgrade');
    const after = await ended();
    expect(after.status.operation).toMatchObject({ type: 'Upgrade', phase: 'Failed' });
    await nodeReady(OLD);
    expect(await env.inside(['get', 'configmap', 'kept', '-o', 'jsonpath={.data.a}'])).toBe('b');
    // kubeadm puts its manifests back itself, and leaves etcd's data: only the snapshot takes this away.
    const names = (await env.inside(['get', 'configmaps', '-o', 'jsonpath={.items[*].metadata.name}'])).split(' ');
    expect(names).toContain('kept');
    expect(names).not.toContain('lost');
    expect(after.spec?.version).toBe(OLD);
    expect(await env.machine.run(['kubeadm', 'version', '-o', 'short'])).toContain(OLD);
  });

  test('R64: upgrade with the agent killed in the middle: it goes on by itself to the new version', { timeout: OPERATION_MS }, async () => {
    await infra('lifecycle', 'upgrade', CLUSTER, `--version=${NEW}`, '--set', `artifacts.source=${ARTIFACTS}`, '--wait=false');
    await inStep(/upgrade-control-plane/);
    await env.killAgent();
    await env.connected();
    const after = await ended();
    expect(after.status.operation).toMatchObject({ type: 'Upgrade', phase: 'Succeeded' });
    expect(after.status.operation?.resumed).toBeGreaterThan(0);
    await nodeReady(NEW);
    expect(await env.inside(['get', 'configmap', 'kept', '-o', 'jsonpath={.data.a}'])).toBe('b');
  });

  test('drift: a changed file is told, and put back on request', { timeout: OPERATION_MS }, async () => {
    const file = '/etc/sysctl.d/99-fairlead-cluster.conf';
    const filesUnchanged = async (status: 'True' | 'False') =>
      await waitFor(
        async () => {
          const now = await env.lifecycle();
          return condition(now, 'FilesUnchanged')?.status === status && now;
        },
        { what: `FilesUnchanged to be ${status}`, timeout: 120_000, interval: 500 },
      );
    await filesUnchanged('True');
    const was = (await env.machine.readFile(file)).toString('utf8');
    await env.machine.run(['sh', '-c', `echo '# by hand' >> ${file}`]);
    // It looks every five minutes, and when it starts.
    await env.killAgent();
    expect((await filesUnchanged('False')).status.drift).toEqual([{ path: file, problem: 'changed' }]);
    await env.connected();
    await infra('lifecycle', 'repair', CLUSTER, '--timeout=5m');
    expect((await env.machine.readFile(file)).toString('utf8')).toBe(was);
    expect((await filesUnchanged('True')).status.drift).toBeUndefined();
  });

  test('the history holds everything, its chain verifies, and a change is found', async () => {
    expect(await infra('audit', CLUSTER)).toContain('Upgrade');
    const { operations } = JSON.parse(await env.ok(['get', '--raw', `/apis/infraops.michael.io/v1/clusters/${CLUSTER}/audit`])) as {
      operations: AuditEntry[];
    };
    expect(verifyChain(operations)).toMatchObject({ ok: true });
    const changed = operations.map((entry, at) => (at === 1 ? { ...entry, requestedBy: 'nobody' } : entry));
    expect(verifyChain(changed)).toMatchObject({ ok: false, sequence: 2 });
    const told = operations.map(({ operation, Status }) => `${operation} ${Status}`);
    for (const one of [
      'Install Completed',
      'Patch Completed',
      'Reset Certs Completed',
      'Restart Completed',
      'Upgrade Failed',
      'Upgrade Completed',
    ])
      expect(told).toContain(one);
  });

  test('delete leaves the machine as it was before', { timeout: OPERATION_MS }, async () => {
    await infra('lifecycle', 'delete', CLUSTER, '--yes', '--timeout=15m');
    expect((await env.lifecycle()).status.phase).toBe('Deleted');
    expect(await leftSince(pristine, env.machine)).toEqual([]);
  });

  let registry: Registry;
  let server: ArtifactServer;

  test('R64: create again in dual stack, from a private registry and an https URL, with a power cut in the middle', {
    timeout: OPERATION_MS,
  }, async () => {
    ({ registry, server } = await supply());
    await env.ok(['infra', 'lifecycle', 'create', CLUSTER, '-f', '-', '--wait=false'], { input: dualStackSpec(registry, server) });
    await inStep(/control-plane/);
    await env.machine.kill();
    await env.machine.start();
    await env.connected();
    const after = await ended();
    expect(after.status).toMatchObject({ phase: 'Provisioned', operation: { type: 'Install', phase: 'Succeeded' } });
    await env.grantInside();
    await nodeReady(NEW);
    expect(condition(after, 'InstallSuccess')?.status).toBe('True');
    const families = (text: string) => text.split(' ').map((address) => (address.includes(':') ? 6 : 4));
    expect(families(await env.inside(['get', 'nodes', '-o', 'jsonpath={.items[0].spec.podCIDRs[*]}']))).toEqual([4, 6]);
    await env.inside(['run', 'two', `--image=${registry.host}/hello:1`, '--port=8080']);
    await env.inside(['run', 'caller', `--image=${registry.host}/hello:1`]);
    await env.inside(['wait', '--for=condition=Ready', 'pod/two', 'pod/caller', '--timeout=120s']);
    await env.inside(['expose', 'pod', 'two', '--port=8080', '--overrides={"spec":{"ipFamilyPolicy":"RequireDualStack"}}']);
    for (const [what, path] of [
      ['pod', '{.status.podIPs[*].ip}'],
      ['service', '{.spec.clusterIPs[*]}'],
    ] as const) {
      const addresses = await env.inside(['get', what, 'two', '-o', `jsonpath=${path}`]);
      expect(families(addresses), what).toEqual([4, 6]);
      for (const address of addresses.split(' ')) await greeted(address);
    }
    const images = await env.inside(['get', 'pods', '-A', '-o', 'jsonpath={.items[*].spec.containers[*].image}']);
    expect(images.split(' ').filter((image) => !image.startsWith(`${registry.host}/`))).toEqual([]);
    expect(server.asked).toContain(`kubernetes/${NEW}/bin/kubelet`);
  });

  test('the registry is asked with the password only, which nobody is told', async () => {
    const answers = await Promise.all(
      ['lifecycle', 'log', 'audit'].map((name) => env.ok(['get', '--raw', `/apis/infraops.michael.io/v1/clusters/${CLUSTER}/${name}`])),
    );
    expect(answers[0]).toContain(registry.username);
    expect(answers[1]).toContain('control-plane');
    for (const text of answers) expect(text).not.toContain(registry.password);
    expect((await env.machine.run(['stat', '-c', '%a', '/etc/containerd/config.toml'])).trim()).toBe('600');
    // Asked without it, the registry refuses: containerd asks so first.
    expect(readFileSync(registry.log, 'utf8')).toMatch(/"GET \/v2\/\S* HTTP\/\S+" 401/);
  });

  test('no secret stands in a log of the agent', async () => {
    const log = await env.machine.run(['journalctl', '--no-pager', '-o', 'cat', '-u', 'fairlead-agent']);
    expect(log).not.toContain('PRIVATE KEY');
    expect(log).not.toContain(registry.password);
    expect(log).not.toContain((await env.machine.readFile('/etc/fairlead-agent/bootstrap-token')).toString('utf8').trim());
    expect(readFileSync(join(env.parent.dir, 'kube-apiserver.log'), 'utf8')).not.toContain('PRIVATE KEY');
  });

  test('delete leaves the machine as it was before both clusters', { timeout: OPERATION_MS }, async () => {
    await infra('lifecycle', 'delete', CLUSTER, '--yes', '--timeout=15m');
    expect((await env.lifecycle()).status.phase).toBe('Deleted');
    expect(await leftSince(pristine, env.machine)).toEqual([]);
  });
});
