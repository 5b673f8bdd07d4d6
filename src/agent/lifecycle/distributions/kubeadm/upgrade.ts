import { stringify } from 'yaml';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { MachineView } from '../../machine/machine.ts';
import { type Action, type Step, type StepContext, StepError } from '../../operations/step.ts';
import { type NodeState, nodeState, onlyNode, waitNodeReady } from '../common/node-state.ts';
import { ask, lines, run, step, wholeOnly } from '../common/run.ts';
import { validateUpgrade } from '../common/versions.ts';
import { newAddOnsStep } from './add-ons.ts';
import { runtimeProblem } from './begin.ts';
import { binariesStep, fetchPrograms, programVersion, verifyPrograms } from './binaries.ts';
import { API, ignoredPreflight } from './config.ts';
import { containerRuntimeStep, runtimeAgainStep } from './container-runtime.ts';
import { etcdMember, etcdSnapshotStep, restoreActions, snapshotFile } from './etcd-snapshot.ts';
import { imagesStep, presentImages, versionOf } from './images.ts';
import { apiVersion, controlPlaneProblems, nodeReadyStep, waitControlPlane } from './init.ts';
import { kubeadmConfigStep } from './kubeadm-config-step.ts';
import { ADMIN_CONF, MANIFESTS } from './paths.ts';
import { schedulingStep } from './scheduling.ts';
import { stopStaticPods } from './static-pods.ts';

/** kubeadm makes folders here right before it touches the first static pod. */
const KUBEADM_WORK = '/etc/kubernetes/tmp';
const ETCD_DATA = '/var/lib/etcd';
/** Room for a snapshot, what is made of it, and a margin. */
const SPARE_BYTES = 512 * 1024 * 1024;
const imagesBefore = (folder: string) => `${folder}/images-before.json`;
const workBefore = (folder: string) => `${folder}/kubeadm-work-before.json`;
const etcdBefore = (folder: string) => `${folder}/etcd-before.yaml`;
const nodeBefore = (folder: string) => `${folder}/node-before.json`;

/** `kubelet`: its version, which need not be the cluster's. */
type NodeBefore = { kubelet: string; cordoned: boolean };

const upgradeConfig = (folder: string) => `${folder}/kubeadm-upgrade.yaml`;

/** What kubeadm cannot be told by flags; undefined when its defaults hold. */
function upgradeSettings({ upgrade }: ClusterSpec): string | undefined {
  if (!upgrade?.componentTimeout) return undefined;
  return stringify({ apiVersion: API, kind: 'UpgradeConfiguration', timeouts: { upgradeManifests: upgrade.componentTimeout } });
}

/** A cluster that comes up, after a restart for one, is waited for; one that stays unwell is not upgraded. */
const steadyStep = step({
  name: 'control-plane-steady',
  run: async () => [waitControlPlane(120_000)],
  afterCrash: 'repeat',
});

/** The cluster is well, the versions fit, and there is room. Writes down what going back needs to know. */
function upgradePreflight(spec: ClusterSpec): Step {
  return step({
    name: 'upgrade-preflight',
    run: async ({ machine, folder, signal }) => {
      const problems = await controlPlaneProblems(machine, signal).catch((error: unknown) => [
        `the API server does not answer: ${error instanceof Error ? error.message : error}`,
      ]);
      let state: NodeState | undefined;
      if (problems.length === 0) {
        const node = await onlyNode(machine, ADMIN_CONF, signal);
        state = node && nodeState(node);
        if (!state?.ready) problems.push(`the node is not Ready: ${state?.why ?? 'there is none'}`);
        const skew = validateUpgrade(await apiVersion(machine, signal), versionOf(spec));
        problems.push(...skew.map(({ message }) => message));
      }
      const runtime = runtimeProblem(await ask(machine, ['containerd', '--version']), versionOf(spec));
      if (runtime) problems.push(runtime);
      const room = await roomProblem(machine);
      if (room) problems.push(room);
      if (problems.length > 0) throw new StepError(`the cluster cannot be upgraded now: ${problems.join('; ')}`);
      const manifest = await machine.read(`${MANIFESTS}/etcd.yaml`);
      // The program counts: it is put back, and the one that runs may be older.
      const kubelet = (await programVersion(machine, 'kubelet')) ?? state?.kubeletVersion ?? '';
      const before: NodeBefore = { kubelet, cordoned: state?.unschedulable === true };
      return [
        { kind: 'write', path: imagesBefore(folder), content: JSON.stringify(await presentImages(machine)), mode: 0o600 },
        { kind: 'write', path: workBefore(folder), content: JSON.stringify(await machine.list(KUBEADM_WORK)), mode: 0o600 },
        { kind: 'write', path: etcdBefore(folder), content: manifest ?? '', mode: 0o600 },
        { kind: 'write', path: nodeBefore(folder), content: JSON.stringify(before), mode: 0o600 },
      ];
    },
    afterCrash: 'repeat',
  });
}

async function roomProblem(machine: MachineView): Promise<string | undefined> {
  const used = Number(/^\d+/.exec((await ask(machine, ['du', '-sb', ETCD_DATA])) ?? '')?.[0] ?? 0);
  const free = Number(lines(await ask(machine, ['df', '-B1', '--output=avail', ETCD_DATA])).at(-1));
  const wanted = 3 * used + SPARE_BYTES;
  if (!Number.isFinite(free) || free >= wanted) return undefined;
  return `${ETCD_DATA} has room for ${Math.floor(free / 1e6)} MB more; a snapshot and going back need ${Math.ceil(wanted / 1e6)} MB`;
}

async function namesIn(machine: MachineView, file: string): Promise<string[] | undefined> {
  const text = await machine.read(file);
  return text === undefined ? undefined : (JSON.parse(text) as string[]);
}

/** Undefined in an operation that an older agent began. */
async function readNodeBefore({ machine, folder }: StepContext): Promise<NodeBefore | undefined> {
  const text = await machine.read(nodeBefore(folder));
  return text === undefined ? undefined : (JSON.parse(text) as NodeBefore);
}

/** Whether kubeadm has got as far as the static pods. Where that cannot be told, it may have. */
async function touchedStaticPods(machine: MachineView, folder: string): Promise<boolean> {
  const before = await namesIn(machine, workBefore(folder));
  return before === undefined || (await machine.list(KUBEADM_WORK)).some((name) => !before.includes(name));
}

/** Does nothing on the way there. Taken back after everything below it has been put back, it brings the old cluster up again. */
function returnStep(): Step {
  return step({
    name: 'return-to-service',
    run: async () => [],
    undo: async (context) => [
      { kind: 'service', unit: 'kubelet', change: 'daemon-reload' },
      { kind: 'service', unit: 'kubelet', change: 'restart' },
      waitNodeReady(ADMIN_CONF, (await readNodeBefore(context))?.kubelet, 300_000),
      waitControlPlane(),
    ],
    afterCrash: 'repeat',
  });
}

/**
 * The control plane, by kubeadm. Repeated after a crash: kubeadm's upgrade goes on from any state that it was cut in, so nothing that was written meanwhile is lost. Taken back, the
 * manifests, keys and settings are put back as files, and etcd, once a static pod was touched, from the snapshot: another minor may have written objects that the old one cannot read.
 */
function controlPlaneUpgradeStep(spec: ClusterSpec): Step {
  // The API server is of the new version long before the rest.
  const upgrade = step({
    name: 'upgrade-control-plane',
    check: async ({ machine, signal }) => (await apiVersion(machine, signal).catch(() => '')) === versionOf(spec),
    run: async ({ facts, folder }) => {
      const ignored = ignoredPreflight(facts);
      const settings = upgradeSettings(spec);
      const argv = [
        'kubeadm',
        'upgrade',
        'apply',
        versionOf(spec),
        '--yes',
        ...(settings ? [`--config=${upgradeConfig(folder)}`] : []),
        ...(ignored.length > 0 ? [`--ignore-preflight-errors=${ignored.join(',')}`] : []),
      ];
      return [
        {
          kind: 'claim',
          paths: [
            '/etc/kubernetes',
            '/var/lib/kubelet/config.yaml',
            '/var/lib/kubelet/kubeadm-flags.env',
            '/var/lib/kubelet/instance-config.yaml',
          ],
        },
        ...(settings ? [{ kind: 'write' as const, path: upgradeConfig(folder), content: settings, mode: 0o600 }] : []),
        // After a power cut: kubeadm gives up at once where the control plane is not up.
        waitControlPlane(),
        run(argv, { timeoutMs: 1_800_000 }),
      ];
    },
    verify: async ({ machine, signal }) => {
      const found = await apiVersion(machine, signal);
      if (found !== versionOf(spec)) throw new Error(`the API server is ${found}, not ${versionOf(spec)}`);
    },
    undo: async ({ machine, folder }) => {
      // As when an image is missing: what the cluster wrote meanwhile stays.
      if (!(await touchedStaticPods(machine, folder))) return [];
      const member = etcdMember((await machine.read(etcdBefore(folder))) ?? '');
      if (!member || !(await machine.stat(snapshotFile(folder)))) {
        throw new StepError('there is no snapshot to go back to', `ls ${folder}`);
      }
      return [
        { kind: 'service', unit: 'kubelet', change: 'stop' },
        ...(await stopStaticPods(machine)),
        ...(await restoreActions(machine, folder, member)),
      ];
    },
    afterCrash: 'repeat',
  });
  return wholeOnly(upgrade);
}

/** kubelet and kubectl follow the control plane. */
function kubeletUpgradeStep(): Step {
  return step({
    name: 'upgrade-kubelet',
    run: async (context): Promise<Action[]> => [
      { kind: 'service', unit: 'kubelet', change: 'stop' },
      ...fetchPrograms(context, ['kubelet', 'kubectl']),
      { kind: 'service', unit: 'kubelet', change: 'daemon-reload' },
      { kind: 'service', unit: 'kubelet', change: 'start' },
    ],
    verify: (context) => verifyPrograms(context, ['kubelet', 'kubectl']),
    undo: async () => [{ kind: 'service', unit: 'kubelet', change: 'stop' }],
    afterCrash: 'repeat',
  });
}

/** The step, but not for a node that was cordoned before the upgrade: whoever did that finds it so, whatever comes of the upgrade. */
const unlessCordoned = (inner: Step): Step => ({
  ...inner,
  check: async (context) => (await readNodeBefore(context))?.cordoned === true || inner.check(context),
});

/** To the version of `spec`. */
export function upgradeSteps(spec: ClusterSpec): Step[] {
  return [
    steadyStep,
    upgradePreflight(spec),
    binariesStep('upgrade-kubeadm', ['kubeadm']),
    imagesStep('upgrade-images', ({ machine, folder }) => namesIn(machine, imagesBefore(folder))),
    // Another minor may want another pause image.
    runtimeAgainStep(),
    containerRuntimeStep('runtime-settings'),
    unlessCordoned(schedulingStep('cordon', true, true)),
    etcdSnapshotStep(),
    returnStep(),
    kubeadmConfigStep('upgrade-configuration'),
    controlPlaneUpgradeStep(spec),
    kubeletUpgradeStep(),
    nodeReadyStep('upgraded-node-ready', versionOf(spec)),
    ...(spec.disableWorkloads ? [] : [unlessCordoned(schedulingStep('uncordon', false, false))]),
    newAddOnsStep('upgraded-add-ons-ready'),
  ];
}
