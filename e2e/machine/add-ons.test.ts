import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createAuthority } from '../lab/certificates.ts';
import { createLabFolder } from '../lab/folders.ts';
import type { MachineState } from '../lab/machine/state.ts';
import { type Registry, startRegistry } from '../lab/registry.ts';
import { toolsFolderWith } from '../lab/tools.ts';
import { waitFor } from '../lab/wait.ts';
import { addOnArtifacts } from './add-on-artifacts.ts';
import { CLUSTER, type MachineEnv, startMachineEnv } from './env.ts';
import { leftSince, OPERATION_MS, onMachines, stateOf } from './on-machines.ts';

const VERSION = 'v1.36.3';
const MANIFEST = '/etc/lab/kube-flannel.yml';
const CA_FILE = '/etc/lab/registry-ca.crt';
const VOLUMES = '/opt/local-path-provisioner';
const BUSYBOX = 'docker.io/library/busybox:1.36';

let env: MachineEnv;
let registry: Registry;
/** Before the cluster, with the agent there and registered. */
let pristine: MachineState;

onMachines(async (teardown) => {
  // The provisioner's image comes from a private registry, all others from the artifacts.
  const artifacts = await addOnArtifacts(VERSION, /local-path-provisioner/);
  teardown.defer(artifacts.remove);
  const authority = createAuthority('fairlead-lab-registry-ca');
  env = await startMachineEnv({
    artifacts: artifacts.folder,
    files: { [MANIFEST]: artifacts.manifest, [CA_FILE]: authority.certificate },
  });
  teardown.defer(env.stop);
  const place = createLabFolder();
  teardown.defer(place.remove);
  const bin = await toolsFolderWith('registry');
  registry = await startRegistry({ bin, dir: join(place.path, 'registry'), address: env.machine.host, authority });
  teardown.defer(registry.stop);
  for (const archive of artifacts.others) await registry.push(archive);
});

const spec = () => `apiVersion: v1alpha1
kind: Cluster
spec:
  version: ${VERSION}
  networking:
    podSubnet: 10.244.0.0/16
    svcSubnet: 10.245.0.0/16
    cniName: flannel
    cniManifestURL: file://${MANIFEST}
  storage:
    clusterCsi: {name: local-path}
  clusterRuntime:
    customiseClusterRuntime: true
    clusterCri:
      privateRegistryFQDN: "${registry.host}"
      certFiles: [${CA_FILE}]
      registryAuth: {isAuthRequired: true, username: ${registry.username}, password: "${registry.password}"}
`;

/** On the machine, as the cluster's administrator. Its cache would be found among what was left. */
const kubectl = (args: readonly string[], input?: object) =>
  env.machine.run(['kubectl', '--kubeconfig', '/etc/kubernetes/admin.conf', ...args], {
    timeout: 150_000,
    env: { KUBECACHEDIR: '/tmp/kubectl' },
    ...(input && { input: JSON.stringify(input) }),
  });
const apply = (...items: object[]) => kubectl(['apply', '-f', '-'], { apiVersion: 'v1', kind: 'List', items });
const get = async <T>(...args: string[]) => JSON.parse(await kubectl(['get', '-o', 'json', ...args])) as T;

type Condition = { type: string; status: string; reason: string; lastTransitionTime: string };
type Node = { spec: { podCIDR: string }; status: { conditions: Condition[] } };
type Deployment = { status: { availableReplicas?: number } };
type Pod = {
  metadata: { name: string };
  spec: { hostNetwork?: boolean; containers: { image: string }[] };
  status: { podIP: string; initContainerStatuses: { name: string; state: { terminated: { finishedAt: string } } }[] };
};

/** A claim and a pod that says what stands in the file of its volume, writes `text` there, and ends. */
const claim = (name: string) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name },
  spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '16Mi' } } },
});
const user = (name: string, text: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name },
  spec: {
    restartPolicy: 'Never',
    containers: [
      {
        name: 'user',
        image: BUSYBOX,
        command: ['/bin/sh', '-c', `if [ -e /data/file ]; then cat /data/file; fi; echo ${text} >/data/file`],
        volumeMounts: [{ name: 'data', mountPath: '/data' }],
      },
    ],
    volumes: [{ name: 'data', persistentVolumeClaim: { claimName: name } }],
  },
});
const succeeded = (name: string) => kubectl(['wait', '--for=jsonpath={.status.phase}=Succeeded', `pod/${name}`, '--timeout=120s']);
const folders = async () => (await env.machine.run(['ls', VOLUMES])).split('\n').filter(Boolean);

describe('a cluster with flannel by its manifest and with local-path storage', () => {
  test('create: the node is Ready once the CNI of the manifest is there', { timeout: OPERATION_MS }, async () => {
    await env.connected();
    pristine = await stateOf(env.machine);
    await env.ok(['infra', 'lifecycle', 'create', CLUSTER, '-f', '-', '--timeout=15m'], { input: spec() });
    const { status } = await env.lifecycle();
    expect(status).toMatchObject({ phase: 'Provisioned', operation: { type: 'Install', phase: 'Succeeded' } });
    expect(status.conditions).toContainEqual(expect.objectContaining({ type: 'CniAddonReady', status: 'True' }));
    const provisioner = ['deployment', 'local-path-provisioner', '-n', 'local-path-storage'];
    expect(await get<Deployment>(...provisioner)).toMatchObject({ status: { availableReplicas: 1 } });
    expect(await env.machine.run(['ls', '/etc/cni/net.d'])).toBe('10-flannel.conflist\n');
    const node = await get<Node>('node', CLUSTER);
    const [flannel] = (await get<{ items: Pod[] }>('pods', '-n', 'kube-flannel')).items;
    const installed = flannel?.status.initContainerStatuses.find(({ name }) => name === 'install-cni')?.state.terminated.finishedAt ?? '';
    const ready = node.status.conditions.find(({ type }) => type === 'Ready');
    expect(ready?.status).toBe('True');
    expect(Date.parse(ready?.lastTransitionTime ?? '')).toBeGreaterThanOrEqual(Date.parse(installed));
    expect(node.status.conditions).toContainEqual(
      expect.objectContaining({ type: 'NetworkUnavailable', status: 'False', reason: 'FlannelIsUp' }),
    );
  });

  test('pods have addresses of podSubnet, reach each other and a Service by its name', async () => {
    const { podCIDR } = (await get<Node>('node', CLUSTER)).spec;
    expect(podCIDR).toBe('10.244.0.0/24');
    for (const name of ['two', 'caller']) await kubectl(['run', name, '--image=fairlead.test/hello:1', '--port=8080']);
    await kubectl(['expose', 'pod', 'two', '--port=8080']);
    await kubectl(['wait', '--for=condition=Ready', 'pod/two', 'pod/caller', '--timeout=120s']);
    const pods = (await get<{ items: Pod[] }>('pods', '-A')).items.filter((pod) => pod.spec.hostNetwork !== true);
    expect(pods.length).toBeGreaterThanOrEqual(4);
    for (const { metadata, status } of pods) expect(status.podIP, metadata.name).toMatch(/^10\.244\.0\.\d+$/);
    const address = pods.find(({ metadata }) => metadata.name === 'two')?.status.podIP ?? '';
    // Rules of a new Service take a moment.
    for (const host of [address, 'two.default.svc.cluster.local']) {
      await waitFor(async () => (await kubectl(['exec', 'caller', '--', '/hello', 'get', host, '8080'])).includes('hello from two'), {
        what: `an answer of ${host}`,
      });
    }
  });

  test('a volume outlives its pod, and its folder goes with the claim', async () => {
    await apply(claim('kept'), user('kept', 'first'));
    await succeeded('kept');
    expect(await folders()).toEqual([expect.stringMatching(/^pvc-.*_default_kept$/)]);
    expect(await kubectl(['logs', 'kept'])).toBe('');
    await kubectl(['delete', 'pod', 'kept']);
    await apply(user('kept', 'second'));
    await succeeded('kept');
    expect(await kubectl(['logs', 'kept'])).toBe('first\n');
    await kubectl(['delete', 'pod/kept', 'pvc/kept']);
    await waitFor(async () => (await folders()).length === 0, { what: "the volume's folder to be gone", timeout: 60_000, interval: 200 });
  });

  test("the provisioner's image came from the private registry", async () => {
    const { items } = await get<{ items: Pod[] }>('pods', '-n', 'local-path-storage', '-l', 'app=local-path-provisioner');
    expect(items[0]?.spec.containers[0]?.image).toMatch(`${registry.host}/local-path-provisioner:`);
  });

  test('delete leaves the machine as it was before, and no volume', { timeout: OPERATION_MS }, async () => {
    await apply(claim('left'), user('left', 'something'));
    await succeeded('left');
    expect(await folders()).toHaveLength(1);
    await env.ok(['infra', 'lifecycle', 'delete', CLUSTER, '--yes', '--timeout=15m']);
    expect((await env.lifecycle()).status.phase).toBe('Deleted');
    expect(await leftSince(pristine, env.machine)).toEqual([]);
    // Not on a disk, so not compared: the next cluster's pods would get addresses of this one.
    expect((await env.machine.exec(['test', '-e', '/run/flannel'])).code).toBe(1);
  });
});
