import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { cniManifestStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/cni.ts';
import { nodeReadyStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/init.ts';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import { localPathStep, waitLocalPath } from '../../../../../src/agent/lifecycle/distributions/kubeadm/storage.ts';
import type { Action } from '../../../../../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { brief, commands } from './machine-folder.ts';
import { smallApiServer } from './small-api-server.ts';
import { spec, usualMachine } from './usual-machine.ts';

const clean = cleanUp();
const storage = (version?: string): Partial<ClusterSpec> => ({
  storage: { clusterCsi: { name: 'local-path', ...(version && { version }) } },
});
const clusterRuntime = { customiseClusterRuntime: true, clusterCri: { privateRegistryFQDN: 'r.example.com:5000' } };

type Env = { name: string; value?: string };
type Applied = {
  kind: string;
  metadata: { name: string };
  data?: Record<string, string>;
  spec?: { template: { spec: { serviceAccountName: string; containers: { image: string; env: Env[] }[] } } };
};

/** Objects that the only kubectl among the actions is given. */
function applied(actions: readonly Action[]): Applied[] {
  const inputs = actions.flatMap((action) => (action.kind === 'command' ? [action.command.input ?? ''] : []));
  expect(inputs).toHaveLength(1);
  return parseAllDocuments(inputs[0] ?? '').map((document) => document.toJS() as Applied);
}

function images(actions: readonly Action[]): (string | undefined)[] {
  const objects = applied(actions);
  const provisioner = objects.find(({ kind }) => kind === 'Deployment')?.spec?.template.spec.containers[0]?.image;
  const helper = /image: (\S+)/.exec(objects.find(({ kind }) => kind === 'ConfigMap')?.data?.['helperPod.yaml'] ?? '')?.[1];
  return [provisioner, helper];
}

describe('local-path', () => {
  const install = (wanted: ClusterSpec) => localPathStep('local-path-storage', wanted, undefined);
  const [PROVISIONER, HELPER] = ['docker.io/rancher/local-path-provisioner:v0.0.30', 'docker.io/library/busybox:1.36'];

  test('pods that make folders ran under an account that was not there', async () => {
    const box = await usualMachine(clean);
    const objects = applied(await install(spec(storage())).run(box.context(spec(storage()))));
    const pod = objects.find(({ kind }) => kind === 'Deployment')?.spec?.template.spec;
    expect(objects.filter(({ kind }) => kind === 'ServiceAccount').map(({ metadata }) => metadata.name)).toEqual([pod?.serviceAccountName]);
    expect(pod?.containers[0]?.env).toContainEqual({ name: 'SERVICE_ACCOUNT_NAME', value: pod?.serviceAccountName });
  });

  test.each<[string, string[], Partial<ClusterSpec>, string[]]>([
    ['from the registries of their makers', [], {}, [PROVISIONER, HELPER]],
    [
      'from the private registry',
      [],
      { clusterRuntime },
      ['r.example.com:5000/local-path-provisioner:v0.0.30', 'r.example.com:5000/busybox:1.36'],
    ],
    ['under their own names where the artifacts brought them', [PROVISIONER, HELPER], { clusterRuntime }, [PROVISIONER, HELPER]],
    ['each for itself', [PROVISIONER], { clusterRuntime }, [PROVISIONER, 'r.example.com:5000/busybox:1.36']],
  ])('images come %s', async (_, there, more, wanted) => {
    const box = await usualMachine(clean);
    await box.write('images', there.map((name) => `${name}\n`).join(''));
    const complete = spec({ ...storage(), ...more });
    expect(images(await install(complete).run(box.context(complete)))).toEqual(wanted);
  });

  test('a patch of its version copies no volumes; taken back, the version before is applied again and volumes stay', async () => {
    const box = await usualMachine(clean);
    await box.write('etc/kubernetes/admin.conf', '');
    const [after, before] = [spec(storage('v0.0.31')), spec(storage())];
    const step = localPathStep('local-path-storage', after, before);
    const context = box.context(after, { before });
    const actions = await step.run(context);
    expect(actions.map(({ kind }) => kind)).not.toContain('claim');
    expect(images(actions)[0]).toBe('docker.io/rancher/local-path-provisioner:v0.0.31');
    const undo = await step.undo(context);
    expect(images(undo)[0]).toBe(PROVISIONER);
    expect(commands(undo)[0]).toMatch(/ apply --server-side /);
  });

  test('a patch that brought it takes it away again', async () => {
    const box = await usualMachine(clean);
    await box.write('etc/kubernetes/admin.conf', '');
    const [after, before] = [spec(storage()), spec()];
    const step = localPathStep('local-path-storage', after, before);
    const context = box.context(after, { before });
    expect(brief(await step.run(context))[0]).toBe('claim /opt/local-path-provisioner');
    expect(commands(await step.undo(context))[0]).toContain(' delete --ignore-not-found ');
  });

  test('comes from the new registry after a patch of that', () => {
    const names = kubeadm.patch(spec({ ...storage(), clusterRuntime }), spec(storage())).map(({ name }) => name);
    expect(names.indexOf('local-path-storage')).toBeGreaterThan(names.indexOf('runtime-settings'));
  });
});

describe('the end of an operation waits for the provisioner', () => {
  const path = '/apis/apps/v1/namespaces/local-path-storage/deployments/local-path-provisioner';
  const deployment = (status: object) => ({ metadata: { generation: 2 }, status: { observedGeneration: 2, ...status } });
  const available = { replicas: 1, updatedReplicas: 1, availableReplicas: 1 };
  const pod = (reason: string) => ({ status: { phase: 'Pending', containerStatuses: [{ state: { waiting: { reason } } }] } });

  async function cluster(more: Partial<ClusterSpec> = {}) {
    const box = await usualMachine(clean);
    const api = await smallApiServer(clean);
    await box.write('etc/kubernetes/admin.conf', api.kubeconfig, 0o600);
    const wait = waitLocalPath(spec({ ...storage(), ...more }));
    if (wait.kind !== 'wait') throw new Error(`a ${wait.kind}`);
    return { box, objects: api.objects, look: () => wait.until(box.machine, AbortSignal.timeout(20_000)) };
  }

  test('not where its image is neither there nor in a private registry', async () => {
    const { look } = await cluster();
    expect(await look()).toBe(true);
  });

  test.each<[string, Partial<ClusterSpec>, string]>([
    ['there', {}, 'docker.io/rancher/local-path-provisioner:v0.0.30\n'],
    ['in a private registry', { clusterRuntime }, ''],
  ])('where its image is %s, and says what it waits for', async (_, more, images) => {
    const { box, objects, look } = await cluster(more);
    await box.write('images', images);
    await expect(look()).rejects.toThrow(/404/);
    objects.set(path, { ...deployment({}), status: { ...available, observedGeneration: 1 } });
    await expect(look()).rejects.toThrow('not looked at yet');
    objects.set('/api/v1/namespaces/local-path-storage/pods', { items: [pod('ImagePullBackOff')] });
    objects.set(path, deployment({ ...available, replicas: 2 }));
    await expect(look()).rejects.toThrow('the local-path provisioner is ImagePullBackOff');
    objects.set(path, deployment(available));
    expect(await look()).toBe(true);
  });

  const waits = async (wanted: ClusterSpec, unschedulable: boolean) => {
    const { box, objects } = await cluster();
    objects.set('/api/v1/nodes', { items: [{ spec: { unschedulable } }] });
    const actions = await nodeReadyStep('node-ready').run(box.context(wanted));
    return actions.flatMap((action) => (action.kind === 'wait' ? [action.text] : []));
  };
  test('of a spec that wants it, on a node where pods begin', async () => {
    const text = 'the local-path provisioner is available';
    expect(await waits(spec(storage()), false)).toContain(text);
    expect(await waits(spec(storage()), true)).not.toContain(text);
    expect(await waits(spec(), false)).not.toContain(text);
  });
});

describe('a network by manifest', () => {
  test("what flannel kept of a deleted cluster's network gave the next one its addresses", async () => {
    const box = await usualMachine(clean);
    await box.write('cni.yaml', 'kind: List\n');
    const claims = async (before: string | undefined) =>
      brief(await cniManifestStep('cni-manifest', 'file:///cni.yaml', before).run(box.context(spec())))[0];
    expect(await claims(undefined)).toContain(' /run/flannel ');
    expect(await claims('file:///older.yaml')).toBe('claim /etc/cni /opt/cni /etc/calico');
  });
});
