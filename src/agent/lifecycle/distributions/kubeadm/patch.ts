import { isDeepStrictEqual } from 'node:util';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import { type Step, StepError } from '../../operations/step.ts';
import { waitApi } from '../common/node-state.ts';
import { run, step } from '../common/run.ts';
import { compareVersions, parseVersion } from '../common/versions.ts';
import { cniManifestStep, isBridge } from './cni.ts';
import { extraArgs } from './config.ts';
import { containerRuntimeStep, runtimeAgainStep } from './container-runtime.ts';
import { registryHost } from './containerd-config.ts';
import { versionOf } from './images.ts';
import { apiVersion, nodeReadyStep } from './init.ts';
import { kubeadmConfigStep } from './kubeadm-config-step.ts';
import { ADMIN_CONF, KUBEADM_CONFIG, PKI } from './paths.ts';
import { takeUpAgainStep, takeUpFiles } from './rotate.ts';
import { schedulingStep } from './scheduling.ts';
import { localPathStep, wantsLocalPath } from './storage.ts';

const CONTROL_PLANE = ['apiServer', 'controllerManager', 'scheduler'] as const;
const phase = (...names: string[]) => run(['kubeadm', 'init', 'phase', ...names, '--config', KUBEADM_CONFIG], { timeoutMs: 120_000 });

const differ = (a: unknown, b: unknown) => !isDeepStrictEqual(a, b);
const argumentsDiffer = (spec: ClusterSpec, before: ClusterSpec, component: string) =>
  differ(extraArgs(spec, component), extraArgs(before, component));

/**
 * kubeadm's configuration names the version of the spec, and what kubeadm makes of it is of that version: where somebody upgraded the control plane by hand, a patch would turn it back.
 * Changes nothing.
 */
function knownVersionStep(): Step {
  return step({
    name: 'known-version',
    run: async ({ machine, spec, signal }) => {
      // A plan shall say it too.
      refuseOther(await apiVersion(machine, signal).catch(() => undefined), versionOf(spec));
      return [waitApi(ADMIN_CONF)];
    },
    verify: async ({ machine, spec, signal }) => refuseOther(await apiVersion(machine, signal), versionOf(spec)),
    afterCrash: 'repeat',
  });
}

/** `found`: undefined where the API server does not answer. */
function refuseOther(found: string | undefined, wanted: string): void {
  if (found === undefined || found === wanted) return;
  const [left, right] = [parseVersion(found), parseVersion(wanted)];
  const newer = left !== undefined && right !== undefined && compareVersions(left, right) > 0;
  const first = newer ? `upgrade the cluster to ${found} first` : `bring the API server back to ${wanted} first`;
  throw new StepError(`the API server is ${found}, and this patch would make it ${wanted}, as the spec says: ${first}`);
}

/** A new certificate of the API server with the names that are wanted now. kubeadm keeps one that it finds, so the old one goes first. */
function certificateNamesStep(): Step {
  return step({
    name: 'certificate-names',
    run: async () => [
      { kind: 'claim', paths: [`${PKI}/apiserver.crt`, `${PKI}/apiserver.key`] },
      { kind: 'remove', path: `${PKI}/apiserver.crt` },
      { kind: 'remove', path: `${PKI}/apiserver.key` },
      phase('certs', 'apiserver'),
    ],
    verify: async ({ machine }) => {
      if (!(await machine.stat(`${PKI}/apiserver.crt`))) throw new Error('kubeadm made no certificate');
    },
    afterCrash: 'repeat',
  });
}

/** New manifests of the static pods; the kubelet takes them up by itself. */
function manifestsStep(etcd: boolean): Step {
  return step({
    name: 'control-plane-arguments',
    run: async () => [
      { kind: 'claim', paths: ['/etc/kubernetes/manifests'] },
      phase('control-plane', 'all'),
      ...(etcd ? [phase('etcd', 'local')] : []),
    ],
    afterCrash: 'repeat',
  });
}

/** The kubelet's flags, from kubeadm's configuration. */
function kubeletStep(): Step {
  return step({
    name: 'kubelet-arguments',
    run: async ({ facts }) => [
      {
        kind: 'claim',
        paths: ['/var/lib/kubelet/config.yaml', '/var/lib/kubelet/kubeadm-flags.env', '/var/lib/kubelet/instance-config.yaml'],
      },
      phase('kubelet-start'),
      // By systemd kubeadm restarts it itself.
      ...(facts.initSystem === 'systemd' ? [] : [{ kind: 'service', unit: 'kubelet', change: 'restart' } as const]),
    ],
    afterCrash: 'repeat',
  });
}

/** Does nothing on the way there; taken back, the kubelet starts with the files that were put back. */
function kubeletAgainStep(): Step {
  return step({
    name: 'restart-old-kubelet',
    run: async () => [],
    undo: async () => [{ kind: 'service', unit: 'kubelet', change: 'restart' }],
    afterCrash: 'repeat',
  });
}

/** kubeadm keeps its configuration in the cluster too, and upgrades from there. Taken back it is put there again from the file, which is put back after this step and before the one that calls it. */
const uploadStep = (name: string): Step =>
  step({ name, run: async () => [waitApi(ADMIN_CONF), phase('upload-config', 'all')], afterCrash: 'repeat' });
const uploadAgainStep = (): Step =>
  step({
    name: 'upload-old-configuration',
    run: async () => [],
    undo: async () => [waitApi(ADMIN_CONF), phase('upload-config', 'all')],
    afterCrash: 'repeat',
  });

/** What follows from the differences: nothing else is touched. */
export function patchSteps(spec: ClusterSpec, before: ClusterSpec): Step[] {
  const names = differ(spec.apiServer?.certSANs ?? [], before.apiServer?.certSANs ?? []);
  const etcd = argumentsDiffer(spec, before, 'etcd');
  const control = etcd || CONTROL_PLANE.some((component) => argumentsDiffer(spec, before, component));
  const kubelet = argumentsDiffer(spec, before, 'kubelet');
  const runtime = differ(spec.clusterRuntime, before.clusterRuntime);
  const validity = differ(spec.certificates?.validityPeriod, before.certificates?.validityPeriod);
  const configured = names || control || kubelet || runtime || validity;
  const { networking } = spec;
  const manifest = networking?.cniManifestURL;
  const newNetwork =
    manifest &&
    !isBridge(spec) &&
    (manifest !== before.networking?.cniManifestURL || networking.cniVersion !== before.networking?.cniVersion);
  const storage = wantsLocalPath(spec) && (differ(spec.storage, before.storage) || registryHost(spec) !== registryHost(before));
  return [
    ...(configured ? [knownVersionStep()] : []),
    ...(configured ? [uploadAgainStep()] : []),
    ...(names || control ? [takeUpAgainStep('take-up-old-control-plane')] : []),
    ...(kubelet ? [kubeletAgainStep()] : []),
    ...(runtime ? [runtimeAgainStep(), containerRuntimeStep('runtime-settings')] : []),
    ...(configured ? [kubeadmConfigStep('configuration'), uploadStep('upload-configuration')] : []),
    ...(names ? [certificateNamesStep()] : []),
    ...(control ? [manifestsStep(etcd)] : []),
    ...(names || control ? [step({ name: 'take-up-control-plane', run: takeUpFiles, afterCrash: 'repeat' })] : []),
    ...(kubelet ? [kubeletStep()] : []),
    ...(newNetwork ? [cniManifestStep('cni-manifest', manifest, before.networking?.cniManifestURL)] : []),
    ...(storage ? [localPathStep('local-path-storage', spec, before)] : []),
    ...(spec.disableWorkloads !== before.disableWorkloads
      ? [schedulingStep(spec.disableWorkloads ? 'cordon' : 'uncordon', spec.disableWorkloads === true, true)]
      : []),
    // Whatever its version: somebody may have upgraded the kubelet by hand, and a patch leaves it alone.
    nodeReadyStep('node-ready'),
  ];
}
