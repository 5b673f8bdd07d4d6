import { describe, expect, test } from 'vitest';
import { etcdMember, etcdSnapshotStep, restoreActions } from '../../../../../src/agent/lifecycle/distributions/kubeadm/etcd-snapshot.ts';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import type { Step } from '../../../../../src/agent/lifecycle/operations/step.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { FACTS, SPEC } from './facts.ts';
import { brief, commands, type MachineFolder, machineFolder } from './machine-folder.ts';
import { smallApiServer, wellCluster } from './small-api-server.ts';

const clean = cleanUp();
const MANIFEST = `spec:
  containers:
  - command:
    - etcd
    - --initial-advertise-peer-urls=https://192.0.2.10:2380
    - --name=edge-1
    image: registry.k8s.io/etcd:3.6.8-0
`;
const before = kubeadm.defaults({ ...SPEC, version: 'v1.35.4' }, FACTS);
const after = kubeadm.defaults(SPEC, FACTS);

function stepOf(steps: readonly Step[], name: string): Step {
  const found = steps.find((step) => step.name === name);
  if (!found) throw new Error(`there is no step ${name}`);
  return found;
}

/** A machine with a cluster of v1.35.4 that is well. */
async function cluster(
  version = 'v1.35.4',
  more: Partial<typeof FACTS> = {},
): Promise<{ box: MachineFolder; objects: Map<string, unknown> }> {
  const box = await machineFolder(clean, more);
  const api = await smallApiServer(clean);
  for (const [path, object] of wellCluster(version)) api.objects.set(path, object);
  await box.write('etc/kubernetes/admin.conf', api.kubeconfig, 0o600);
  await box.write('etc/kubernetes/manifests/etcd.yaml', MANIFEST, 0o600);
  await box.write('images', 'registry.k8s.io/etcd:3.6.8-0\n');
  await box.program('ctr', 'case "$3 $4" in "images ls") cat $ROOT/images;; esac');
  await box.program('df', 'echo Avail; echo 100000000000');
  await box.program('du', 'echo "1000000 /var/lib/etcd"');
  return { box, objects: api.objects };
}

describe('preflight of an upgrade', () => {
  test('writes down what going back needs', async () => {
    const { box } = await cluster();
    const context = box.context(after, { before });
    await box.take(stepOf(kubeadm.upgrade(after, before), 'upgrade-preflight'), context);
    expect(await box.machine.read(`${context.folder}/etcd-before.yaml`)).toBe(MANIFEST);
    expect(JSON.parse((await box.machine.read(`${context.folder}/images-before.json`)) ?? '')).toEqual(['registry.k8s.io/etcd:3.6.8-0']);
  });

  test.each<[string, (given: { box: MachineFolder; objects: Map<string, unknown> }) => unknown, string]>([
    [
      'a node that is not Ready',
      ({ objects }) =>
        objects.set('/api/v1/nodes', { items: [{ status: { conditions: [{ type: 'Ready', status: 'False', message: 'no network' }] } }] }),
      'not Ready: no network',
    ],
    [
      'a control plane that is not well',
      ({ objects }) => objects.set('/api/v1/namespaces/kube-system/pods', { items: [] }),
      'etcd is not there',
    ],
    [
      'an API server of another version than was thought',
      ({ objects }) => objects.set('/version', { gitVersion: 'v1.34.1' }),
      'upgrade to v1.35 first',
    ],
    ['an API server that does not answer', ({ objects }) => objects.clear(), 'does not answer'],
    ['a full disk', ({ box }) => box.program('df', 'echo Avail; echo 1000000'), 'has room for 1 MB more'],
  ])('refuses %s', async (_, prepare, message) => {
    const given = await cluster();
    await prepare(given);
    const step = stepOf(kubeadm.upgrade(after, before), 'upgrade-preflight');
    await expect(step.run(given.box.context(after, { before }))).rejects.toThrow(message);
  });
});

describe("etcd's snapshot", () => {
  test("is taken and looked at with the tools of the etcd's own image", async () => {
    const { box } = await cluster();
    const context = box.context(after);
    const lines = commands(await etcdSnapshotStep().run(context)).map((line) => line.replaceAll(context.folder, 'FOLDER'));
    expect(lines).toContain('ctr -n k8s.io images mount registry.k8s.io/etcd:3.6.8-0 FOLDER/etcd-image');
    expect(lines.at(-2)).toMatch(/^FOLDER\/etcdctl --endpoints https:\/\/127.0.0.1:2379 --cacert .* snapshot save FOLDER\/etcd.db$/);
    expect(lines.at(-1)).toMatch(/^FOLDER\/etcdutl snapshot status FOLDER\/etcd.db/);
  });
  test('without etcd, or without its image, there is an error that says so', async () => {
    const { box } = await cluster();
    await box.write('images', '');
    await expect(etcdSnapshotStep().run(box.context(after))).rejects.toThrow('is not in containerd');
    await box.write('etc/kubernetes/manifests/etcd.yaml', '');
    await expect(etcdSnapshotStep().run(box.context(after))).rejects.toThrow('nothing can be saved');
  });
  test('an empty one is no snapshot', async () => {
    const { box } = await cluster();
    const context = box.context(after);
    await expect(etcdSnapshotStep().verify(context)).rejects.toThrow('empty');
    await box.machine.write(`${context.folder}/etcd.db`, 'x', 0o600);
    await etcdSnapshotStep().verify(context);
  });

  test('the member is read from the manifest; revisions go on since etcd 3.6', () => {
    expect(etcdMember(MANIFEST)).toEqual({ name: 'edge-1', peer: 'https://192.0.2.10:2380', bumps: true });
    expect(etcdMember(MANIFEST.replace('3.6.8-0', '3.5.21-0'))?.bumps).toBe(false);
    expect(etcdMember('')).toBeUndefined();
  });

  test('going back: restored beside, verified by etcdutl, and only then put in place', () => {
    const lines = brief(restoreActions('/f', { name: 'edge-1', peer: 'https://192.0.2.10:2380', bumps: true }));
    expect(lines[1]).toBe(
      '/f/etcdutl snapshot restore /f/etcd.db --data-dir /f/etcd-restored --name edge-1 --initial-cluster edge-1=https://192.0.2.10:2380 --initial-advertise-peer-urls https://192.0.2.10:2380 --bump-revision 1000000000 --mark-compacted',
    );
    expect(lines.indexOf('rm -rf /var/lib/etcd/member')).toBeGreaterThan(1);
    expect(lines.indexOf('cp -a /f/etcd-restored/member /var/lib/etcd/member')).toBeGreaterThan(
      lines.indexOf('rm -rf /var/lib/etcd/member'),
    );
  });
});

describe('the upgrade itself', () => {
  test('by kubeadm, with what it changes saved before, and the narrow list of ignored errors', async () => {
    const { box } = await cluster('v1.35.4', { cgroup: 1 });
    const step = stepOf(kubeadm.upgrade(after, before), 'upgrade-control-plane');
    const context = box.context(after, { before });
    expect(await step.check(context)).toBe(false);
    const actions = await step.run(context);
    expect(actions[1]).toMatchObject({ kind: 'claim', paths: expect.arrayContaining(['/etc/kubernetes']) });
    expect(commands(actions)).toEqual(['kubeadm upgrade apply v1.36.3 --yes --ignore-preflight-errors=SystemVerification']);
  });

  test('waits for each component as long as the spec says', async () => {
    const { box } = await cluster('v1.35.4', { cgroup: 1 });
    const patient = { ...after, upgrade: { componentTimeout: '90s' } };
    const context = box.context(patient, { before });
    const actions = await stepOf(kubeadm.upgrade(patient, before), 'upgrade-control-plane').run(context);
    const file = `${context.folder}/kubeadm-upgrade.yaml`;
    expect(commands(actions)).toEqual([
      `kubeadm upgrade apply v1.36.3 --yes --config=${file} --ignore-preflight-errors=SystemVerification`,
    ]);
    const written = actions.find((action) => action.kind === 'write' && action.path === file);
    expect(written).toMatchObject({ content: expect.stringMatching(/kind: UpgradeConfiguration\ntimeouts:\n {2}upgradeManifests: 90s\n/) });
  });

  test('is done already when the API server is of the version', async () => {
    const { box } = await cluster('v1.36.3');
    expect(await stepOf(kubeadm.upgrade(after, before), 'upgrade-control-plane').check(box.context(after))).toBe(true);
  });

  test('cut after the API server was upgraded, before the rest, it is not done', async () => {
    const { box, objects } = await cluster();
    await box.program('kubeadm', 'exit 1');
    const context = box.context(after, { before });
    const step = stepOf(kubeadm.upgrade(after, before), 'upgrade-control-plane');
    const actions = (await step.run(context)).filter(({ kind }) => kind !== 'wait');
    await expect(box.perform(actions)).rejects.toThrow('exit code 1');
    objects.set('/version', { gitVersion: 'v1.36.3' });
    expect(await step.check(context)).toBe(false);
    await box.program('kubeadm', 'exit 0');
    await box.perform(actions);
    expect(await step.check(context)).toBe(true);
  });

  test('is not taken back without a snapshot: that would empty the cluster', async () => {
    const { box } = await cluster();
    const step = stepOf(kubeadm.upgrade(after, before), 'upgrade-control-plane');
    await expect(step.undo(box.context(after))).rejects.toThrow('no snapshot to go back to');
  });

  test('taken back: kubelet and static pods stop before the data is touched', async () => {
    const { box } = await cluster();
    const context = box.context(after);
    await box.machine.write(`${context.folder}/etcd.db`, 'x', 0o600);
    await box.machine.write(`${context.folder}/etcd-before.yaml`, MANIFEST, 0o600);
    const lines = brief(await stepOf(kubeadm.upgrade(after, before), 'upgrade-control-plane').undo(context));
    expect(lines[0]).toBe('stop kubelet');
    expect(lines.indexOf('wait the control plane has ended')).toBeGreaterThan(0);
    expect(lines.indexOf('rm -rf /var/lib/etcd/member')).toBeGreaterThan(lines.indexOf('wait the control plane has ended'));
  });

  test('when kubeadm gave up before it touched a static pod, the data stays as it is', async () => {
    const { box } = await cluster();
    const context = box.context(after, { before });
    await box.write('etc/kubernetes/tmp/kubeadm-backup-manifests-2026/etcd.yaml', '');
    await box.take(stepOf(kubeadm.upgrade(after, before), 'upgrade-preflight'), context);
    const step = stepOf(kubeadm.upgrade(after, before), 'upgrade-control-plane');
    expect(await step.undo(context)).toEqual([]);
    await box.write('etc/kubernetes/tmp/kubeadm-backup-manifests-2027/etcd.yaml', '');
    await box.machine.write(`${context.folder}/etcd.db`, 'x', 0o600);
    expect(brief(await step.undo(context))).toContain('rm -rf /var/lib/etcd/member');
  });

  test('what comes back is waited for after the files are back: its step stands before those that change them', () => {
    const names = kubeadm.upgrade(after, before).map(({ name }) => name);
    expect(names.indexOf('etcd-snapshot')).toBeLessThan(names.indexOf('upgrade-control-plane'));
    expect(names.indexOf('return-to-service')).toBeLessThan(names.indexOf('upgrade-control-plane'));
    expect(names.indexOf('upgrade-control-plane')).toBeLessThan(names.indexOf('upgrade-kubelet'));
    expect(names.at(-1)).toBe('uncordon');
    expect(kubeadm.upgrade({ ...after, disableWorkloads: true }, before).map(({ name }) => name)).not.toContain('uncordon');
  });

  test('the kubelet is stopped while its program is exchanged, and the old one waits for its node', async () => {
    const { box } = await cluster();
    const steps = kubeadm.upgrade(after, before);
    expect(brief(await stepOf(steps, 'upgrade-kubelet').run(box.context(after)))).toEqual([
      'stop kubelet',
      'fetch /usr/bin/kubelet',
      'fetch /usr/bin/kubectl',
      'daemon-reload kubelet',
      'start kubelet',
    ]);
    expect(brief(await stepOf(steps, 'return-to-service').undo(box.context(after)))).toEqual([
      'daemon-reload kubelet',
      'restart kubelet',
      'wait the node is Ready with kubelet v1.35.4',
      'wait the control plane runs',
    ]);
  });
});

describe('cordon and uncordon', () => {
  test('are done by kubectl, once the API server is ready', async () => {
    const { box, objects } = await cluster();
    const context = box.context(after, { before });
    const step = stepOf(kubeadm.upgrade(after, before), 'cordon');
    expect(await step.check(context)).toBe(false);
    expect(brief(await step.run(context))).toEqual([
      'wait the API server is ready',
      'kubectl --kubeconfig /etc/kubernetes/admin.conf cordon edge-1',
    ]);
    objects.set('/api/v1/nodes', { items: [{ spec: { unschedulable: true } }] });
    expect(await step.check(context)).toBe(true);
  });

  test('after a power cut an API server that is not up yet is waited for, and the node is not left cordoned', async () => {
    const { box, objects } = await cluster();
    objects.clear();
    const context = box.context(after, { before });
    const step = stepOf(kubeadm.upgrade(after, before), 'cordon');
    expect(await step.check(context)).toBe(false);
    expect(brief(await step.undo(context))).toEqual([
      'wait the API server is ready',
      'kubectl --kubeconfig /etc/kubernetes/admin.conf uncordon edge-1',
    ]);
  });

  test('an install that is taken back takes the cluster away, and asks nothing of it', async () => {
    const { box } = await cluster();
    const spec = { ...after, disableWorkloads: true, storage: { clusterCsi: { name: 'local-path', version: 'v0.0.30' } } };
    for (const name of ['cordon', 'local-path-storage']) {
      expect(await stepOf(kubeadm.install(spec), name).undo(box.context(spec))).toEqual([]);
    }
  });
});
