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

  test('going back: restored beside, verified by etcdutl, and only then put in place', async () => {
    const { box } = await cluster();
    await box.write('var/lib/etcd/member/snap/db', 'old');
    const lines = brief(await restoreActions(box.machine, '/f', { name: 'edge-1', peer: 'https://192.0.2.10:2380', bumps: true }));
    expect(lines[1]).toBe(
      '/f/etcdutl snapshot restore /f/etcd.db --data-dir /f/etcd-restored --name edge-1 --initial-cluster edge-1=https://192.0.2.10:2380 --initial-advertise-peer-urls https://192.0.2.10:2380 --bump-revision 1000000000 --mark-compacted',
    );
    expect(lines.slice(2)).toEqual([
      'mv /var/lib/etcd/member /var/lib/etcd/member.before-restore',
      'cp -a /f/etcd-restored/member /var/lib/etcd/member',
      'sync -f /var/lib/etcd',
      'rm -rf /var/lib/etcd/member.before-restore',
      'remove /f/etcd-restored',
    ]);
  });

  test('the data that stood there was gone before the new one was in place', async () => {
    const { box } = await cluster();
    const { folder } = box.context(after);
    const at = 'case $2 in $ROOT*) from=$2;; *) from=$ROOT$2;; esac';
    await box.program('mv', 'mv $ROOT$1 $ROOT$2');
    await box.program('rm', 'rm -rf $ROOT$2');
    await box.program('cp', `${at}; cp -a $from $ROOT$3`);
    await box.program('sync', '');
    await box.machine.write(`${folder}/etcdutl`, '#!/bin/sh\n/bin/mkdir -p $5/member; echo new > $5/member/db\n', 0o755);
    const actions = () => restoreActions(box.machine, folder, { name: 'edge-1', peer: 'https://192.0.2.10:2380', bumps: true });
    const data = async (name: string) => (await box.machine.read(`/var/lib/etcd/${name}/db`))?.trim();
    await box.write('var/lib/etcd/member/db', 'old');
    const { length } = await actions();
    for (let cut = 0; cut <= length; cut++) {
      await box.machine.remove('/var/lib/etcd');
      await box.write('var/lib/etcd/member/db', 'old');
      await box.perform((await actions()).slice(0, cut));
      expect([await data('member'), await data('member.before-restore')], `cut after ${cut}`).toContain(cut < length - 1 ? 'old' : 'new');
      // The copy may have been cut in the middle.
      if ((await data('member')) === 'new' && (await data('member.before-restore')) === 'old')
        await box.machine.remove('/var/lib/etcd/member/db');
      await box.perform(await actions());
      expect(await data('member'), `cut after ${cut}`).toBe('new');
      expect(await box.machine.list('/var/lib/etcd')).toEqual(['member']);
    }
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
    await box.write('var/lib/etcd/member/snap/db', 'old');
    await box.machine.write(`${context.folder}/etcd.db`, 'x', 0o600);
    await box.machine.write(`${context.folder}/etcd-before.yaml`, MANIFEST, 0o600);
    const lines = brief(await stepOf(kubeadm.upgrade(after, before), 'upgrade-control-plane').undo(context));
    expect(lines[0]).toBe('stop kubelet');
    expect(lines.indexOf('wait the control plane has ended')).toBeGreaterThan(0);
    expect(lines.indexOf('mv /var/lib/etcd/member /var/lib/etcd/member.before-restore')).toBeGreaterThan(
      lines.indexOf('wait the control plane has ended'),
    );
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
    expect(brief(await step.undo(context))).toContain(`cp -a ${context.folder}/etcd-restored/member /var/lib/etcd/member`);
  });

  test('what comes back is waited for after the files are back: its step stands before those that change them', () => {
    const names = kubeadm.upgrade(after, before).map(({ name }) => name);
    expect(names.indexOf('etcd-snapshot')).toBeLessThan(names.indexOf('upgrade-control-plane'));
    expect(names.indexOf('return-to-service')).toBeLessThan(names.indexOf('upgrade-control-plane'));
    expect(names.indexOf('upgrade-control-plane')).toBeLessThan(names.indexOf('upgrade-kubelet'));
    // Only then a pod of the new CoreDNS can begin.
    expect(names.slice(-2)).toEqual(['uncordon', 'upgraded-add-ons-ready']);
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
    await box.take(stepOf(steps, 'upgrade-preflight'), box.context(after, { before }));
    expect(brief(await stepOf(steps, 'return-to-service').undo(box.context(after)))).toEqual([
      'daemon-reload kubelet',
      'restart kubelet',
      'wait the node is Ready with kubelet v1.35.4',
      'wait the control plane runs',
    ]);
  });
});

test("taken back, an upgrade that followed a newer kubelet waited for a kubelet of the cluster's old version", async () => {
  const { box } = await cluster();
  const steps = kubeadm.upgrade(after, before);
  const context = box.context(after, { before });
  const waits = async () => brief(await stepOf(steps, 'return-to-service').undo(context))[2];
  // Begun by an agent that wrote nothing down.
  expect(await waits()).toBe('wait the node is Ready');
  // Exchanged, and perhaps not restarted yet: the node still tells the version of before.
  await box.program('kubelet', 'echo "Kubernetes v1.36.3"');
  await box.take(stepOf(steps, 'upgrade-preflight'), context);
  expect(await waits()).toBe('wait the node is Ready with kubelet v1.36.3');
});

describe('the end of an upgrade waits for what kubeadm has rolled out', () => {
  const [OLD, NEW] = ['registry.k8s.io/coredns/coredns:v1.13.1', 'registry.k8s.io/coredns/coredns:v1.14.2'];
  const PROXY = 'registry.k8s.io/kube-proxy:v1.36.3';
  const template = (image: string) => ({ spec: { containers: [{ image }] } });
  const ready = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };
  const pod = (image: string, status: object = ready) => ({ ...template(image), status });
  const pods = (...items: object[]) => ['/api/v1/namespaces/kube-system/pods', { items }] as const;
  const workload = (kind: string, spec: object) => [`/apis/apps/v1/namespaces/kube-system/${kind}`, { spec }] as const;

  async function rolledOut() {
    const { box, objects } = await cluster();
    objects.set(...workload('daemonsets/kube-proxy', { template: template(PROXY) }));
    objects.set(...workload('deployments/coredns', { replicas: 2, template: template(NEW) }));
    const step = stepOf(kubeadm.upgrade(after, before), 'upgraded-add-ons-ready');
    return { box, objects, actions: await step.run(box.context(after, { before })) };
  }

  test('a CoreDNS that never started was reported as an upgrade that succeeded', async () => {
    const { box, objects, actions } = await rolledOut();
    expect(brief(actions)).toEqual(['wait the new kube-proxy is ready', 'wait the new CoreDNS is ready']);
    const pulling = { phase: 'Pending', containerStatuses: [{ state: { waiting: { reason: 'ImagePullBackOff' } } }] };
    objects.set(...pods(pod(PROXY), pod(OLD)));
    await expect(box.perform(actions)).rejects.toThrow(`CoreDNS (${NEW}) is not there`);
    objects.set(...pods(pod(PROXY), pod(OLD), pod(NEW, pulling)));
    await expect(box.perform(actions)).rejects.toThrow(`CoreDNS (${NEW}) is ImagePullBackOff`);
    objects.set(...pods(pod(PROXY), pod(NEW), pod(NEW, { phase: 'Pending' })));
    await box.perform(actions);
    objects.set(...pods(pod(NEW)));
    await expect(box.perform(actions)).rejects.toThrow('kube-proxy (');
  });

  test('one that somebody has taken away, or wants none of, is not waited for', async () => {
    const { box, objects, actions } = await rolledOut();
    objects.set(...pods());
    objects.delete('/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy');
    objects.set(...workload('deployments/coredns', { replicas: 0, template: template(NEW) }));
    await box.perform(actions);
  });

  test('on a cordoned node no new CoreDNS can begin', async () => {
    const { box, objects } = await rolledOut();
    objects.set('/api/v1/nodes', { items: [{ spec: { unschedulable: true } }] });
    const step = stepOf(kubeadm.upgrade(after, before), 'upgraded-add-ons-ready');
    expect(brief(await step.run(box.context(after, { before })))).toEqual(['wait the new kube-proxy is ready']);
  });
});

describe('cordon and uncordon', () => {
  test('a node that was cordoned by hand before an upgrade was uncordoned by it', async () => {
    const { box, objects } = await cluster();
    const conditions = [{ type: 'Ready', status: 'True' }];
    objects.set('/api/v1/nodes', { items: [{ spec: { unschedulable: true }, status: { conditions } }] });
    const steps = kubeadm.upgrade(after, before);
    const context = box.context(after, { before });
    expect(await stepOf(steps, 'uncordon').check(context)).toBe(false);
    await box.take(stepOf(steps, 'upgrade-preflight'), context);
    // Also where the API server does not answer: a step that has not begun is not taken back.
    objects.clear();
    for (const name of ['cordon', 'uncordon']) expect(await stepOf(steps, name).check(context), name).toBe(true);
  });

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
