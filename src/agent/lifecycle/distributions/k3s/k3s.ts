import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import { hostnameStep } from '../common/hostname.ts';
import { kernelModulesStep, sysctlsStep } from '../common/kernel.ts';
import type { Distribution } from '../distribution.ts';
import { preflightStep, recordStep } from './begin.ts';
import { k3sCertificates } from './certificates.ts';
import { configurationStep } from './configuration-step.ts';
import { installStep } from './install-step.ts';
import { k3sKubeconfig } from './kubeconfig.ts';
import { networkFamilies } from './networks.ts';
import { observeK3s } from './observe.ts';
import { AGENT, KUBECONFIG, SERVER, TLS } from './paths.ts';
import { certificatesAfterStep, certificatesBeforeStep, rotateStep } from './rotate-steps.ts';
import { cniStep, nodeReadyStep, runsAgainStep, schedulingStep, snapshotStep, startStep, stopStep } from './running.ts';
import type { K3sOptions } from './source.ts';
import { k3sDefaults, k3sProblems } from './spec.ts';

/** What makes a k3s cluster what it is (https://docs.k3s.io/datastore/backup-restore): SQLite or embedded etcd, the token that secrets in it are sealed with, certificates. */
const STATE = [`${SERVER}/db`, `${SERVER}/token`, `${SERVER}/cred`, TLS];
/** Certificates of the node's own parts. */
const NODE_CERTIFICATES = ['client-kubelet', 'serving-kubelet', 'client-kube-proxy', 'client-k3s-controller'].flatMap((name) => [
  `${AGENT}/${name}.crt`,
  `${AGENT}/${name}.key`,
]);

const versionOf = ({ version = '' }: ClusterSpec) => version;
const manifestOf = ({ networking }: ClusterSpec) => networking?.cniManifestURL || undefined;
const cordons = ({ disableWorkloads }: ClusterSpec) => disableWorkloads === true;

/** k3s by its official installer, from artifacts or by URL. */
export function k3sDistribution(options: K3sOptions = {}): Distribution {
  return {
    type: 'k3s',
    kubeconfigPath: KUBECONFIG,
    kubeconfigElsewhere: k3sKubeconfig,
    defaults: k3sDefaults,
    validate: k3sProblems,
    install: (spec) => {
      const manifest = manifestOf(spec);
      return [
        preflightStep(),
        recordStep(),
        hostnameStep(),
        kernelModulesStep(),
        sysctlsStep(networkFamilies(spec) > 1),
        configurationStep(spec),
        installStep(versionOf(spec), options, true),
        startStep(versionOf(spec)),
        ...(manifest ? [cniStep(manifest, undefined)] : []),
        nodeReadyStep(versionOf(spec)),
        schedulingStep(cordons(spec)),
      ];
    },
    upgrade: (spec, before) => [
      runsAgainStep(before, true),
      stopStep(),
      snapshotStep(STATE),
      configurationStep(spec),
      installStep(versionOf(spec), options, false),
      startStep(versionOf(spec)),
      nodeReadyStep(versionOf(spec)),
      // k3s is upgraded without a cordon: whoever cordoned the node by hand finds it so.
      ...(cordons(spec) ? [schedulingStep(true)] : []),
    ],
    patch: (spec, before) => {
      const manifest = manifestOf(spec);
      const changes = needsRestart(spec, before);
      return [
        runsAgainStep(before, true),
        ...(changes ? [stopStep(), snapshotStep(STATE), configurationStep(spec), startStep(versionOf(before))] : []),
        ...(manifest && manifest !== manifestOf(before) ? [cniStep(manifest, manifestOf(before))] : []),
        nodeReadyStep(versionOf(before)),
        ...(cordons(spec) !== cordons(before) ? [schedulingStep(cordons(spec))] : []),
      ];
    },
    rotate: (spec) => [
      runsAgainStep(spec, false),
      certificatesBeforeStep(),
      stopStep(),
      snapshotStep([TLS, KUBECONFIG, ...NODE_CERTIFICATES]),
      rotateStep(),
      startStep(versionOf(spec)),
      certificatesAfterStep(),
      nodeReadyStep(versionOf(spec)),
    ],
    // The uninstaller ends whatever runs; the steps of install have it.
    beforeDelete: () => [],
    observe: (machine, _spec, signal) => observeK3s(machine, signal),
    certificates: (machine) => k3sCertificates(machine),
  };
}

/** Whether two specs differ in what k3s reads only when it starts. */
function needsRestart(spec: ClusterSpec, before: ClusterSpec): boolean {
  const read = ({ networking, storage, apiServer, extraArgs, clusterRuntime, certificates }: ClusterSpec) =>
    JSON.stringify([
      networking?.podSubnet,
      networking?.svcSubnet,
      !networking?.cniManifestURL,
      storage,
      apiServer,
      extraArgs,
      clusterRuntime,
      certificates,
    ]);
  return read(spec) !== read(before);
}
