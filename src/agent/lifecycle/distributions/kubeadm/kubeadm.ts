import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { Step } from '../../operations/step.ts';
import { hostnameStep } from '../common/hostname.ts';
import { kernelModulesStep, sysctlsStep } from '../common/kernel.ts';
import type { Distribution } from '../distribution.ts';
import { preflightStep, recordStep } from './begin.ts';
import { binariesStep, kubeletServiceStep } from './binaries.ts';
import { kubeadmCertificates } from './certificates.ts';
import { bridgeStep, cniManifestStep, cniPluginsStep, isBridge } from './cni.ts';
import { containerdPackagesStep, containerRuntimeStep, leftoversStep } from './container-runtime.ts';
import { imagesOfLedger, imagesStep, versionOf } from './images.ts';
import { controlPlaneStep, dnsStep, nodeReadyStep } from './init.ts';
import { kubeadmConfigStep } from './kubeadm-config-step.ts';
import { isDualStack } from './networks.ts';
import { observeKubeadm } from './observe.ts';
import { patchSteps } from './patch.ts';
import { ADMIN_CONF } from './paths.ts';
import { rotateSteps } from './rotate.ts';
import { schedulingStep } from './scheduling.ts';
import { kubeadmDefaults, validateKubeadm } from './spec.ts';
import { localPathStep, wantsLocalPath } from './storage.ts';
import { upgradeSteps } from './upgrade.ts';

/** From a bare machine to a Ready node. In the order of what needs what; taken back in the opposite one. */
function installSteps(spec: ClusterSpec): Step[] {
  const manifest = spec.networking?.cniManifestURL;
  return [
    preflightStep(),
    recordStep(),
    hostnameStep(),
    kernelModulesStep(),
    sysctlsStep(isDualStack(spec)),
    containerdPackagesStep(),
    binariesStep('binaries', ['kubeadm', 'kubelet', 'kubectl']),
    kubeletServiceStep(),
    containerRuntimeStep(),
    cniPluginsStep(),
    imagesStep('images', imagesOfLedger),
    ...(isBridge(spec) ? [bridgeStep(spec)] : []),
    kubeadmConfigStep('kubeadm-configuration'),
    leftoversStep(),
    controlPlaneStep(),
    dnsStep(),
    ...(manifest && !isBridge(spec) ? [cniManifestStep('cni-manifest', manifest, undefined)] : []),
    ...(wantsLocalPath(spec) ? [localPathStep('local-path-storage', spec, undefined)] : []),
    nodeReadyStep('node-ready', versionOf(spec)),
    ...(spec.disableWorkloads ? [schedulingStep('cordon', true, false)] : []),
  ];
}

/** One node by kubeadm, containerd and systemd (or the agent's own supervisor). */
export const kubeadm: Distribution = {
  type: 'kubeadm',
  defaults: kubeadmDefaults,
  validate: validateKubeadm,
  install: installSteps,
  upgrade: upgradeSteps,
  patch: patchSteps,
  rotate: rotateSteps,
  // Pods end with the cluster; there is no other node that they could go to.
  beforeDelete: () => [],
  observe: observeKubeadm,
  certificates: (machine) => kubeadmCertificates(machine),
  kubeconfigPath: ADMIN_CONF,
};
