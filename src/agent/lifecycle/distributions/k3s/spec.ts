import { parseDuration } from '../../../../kube/flags.ts';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { StatusCause } from '../../../../kube/status.ts';
import type { Facts } from '../../machine/machine.ts';
import { canonicalVersion, parseVersion } from '../common/versions.ts';

const DAY_MS = 86_400_000;
const COMPONENTS = ['server', 'kubelet'];

/** Settings of `k3s server` that the spec has fields for, that the agent relies on, or that would make another kind of node of the machine; by what to use. */
const TAKEN: Readonly<Record<string, string>> = {
  'cluster-cidr': 'use spec.networking.podSubnet',
  'service-cidr': 'use spec.networking.svcSubnet',
  'tls-san': 'use spec.apiServer.certSANs',
  'flannel-backend': 'it follows from spec.networking.cniManifestURL',
  'disable-network-policy': 'it follows from spec.networking.cniManifestURL',
  'disable-agent': 'the machine would have no node',
  'node-name': "it is the machine's name",
  'kubelet-arg': 'use extraArgs[kubelet.FLAG]',
  'data-dir': 'the agent looks after the default folder',
  'write-kubeconfig': 'the agent reads the default file',
  'write-kubeconfig-mode': 'only root may read it',
  'private-registry': 'use spec.clusterRuntime',
  'datastore-endpoint': 'the agent could not save and restore it',
  'cluster-reset': 'it is for one start only',
  config: 'the agent writes the configuration file',
  server: 'the machine would join another cluster',
  token: 'secrets have no place in extraArgs',
  'agent-token': 'secrets have no place in extraArgs',
};

/** The complete spec of a k3s cluster. */
export function k3sDefaults(spec: ClusterSpec, facts: Facts): ClusterSpec {
  const { networking, storage } = spec;
  return {
    ...spec,
    clusterName: spec.clusterName || facts.hostname.toLowerCase(),
    ...(spec.version !== undefined && { version: canonicalVersion(spec.version) }),
    networking: {
      ...networking,
      podSubnet: networking?.podSubnet || '10.42.0.0/16',
      svcSubnet: networking?.svcSubnet || '10.43.0.0/16',
      cniName: networking?.cniName || (networking?.cniManifestURL ? 'manifest' : 'flannel'),
    },
    storage: { ...storage, clusterCsi: { ...storage?.clusterCsi, name: storage?.clusterCsi?.name || 'local-path' } },
    disableWorkloads: spec.disableWorkloads ?? false,
  };
}

/** What is wrong with a complete spec for k3s, besides what is wrong for every distribution. */
export function k3sProblems(spec: ClusterSpec): StatusCause[] {
  const causes: StatusCause[] = [];
  const wrong = (field: string, message: string, reason = 'FieldValueInvalid') => causes.push({ reason, field: `spec.${field}`, message });
  const { version, networking, storage, extraArgs, certificates, upgrade } = spec;

  if (!version) wrong('version', 'Required value: a version of k3s, such as v1.36.3+k3s1', 'FieldValueRequired');
  else if (!/^\+k3s\d+$/.test(parseVersion(version)?.build ?? '')) {
    wrong('version', `Invalid value: ${JSON.stringify(version.slice(0, 64))}: must be a version of k3s, such as v1.36.3+k3s1`);
  }

  const { cniName = '', cniManifestURL, cniVersion, cilium } = networking ?? {};
  if (!cniManifestURL && cniName !== 'flannel') {
    wrong(
      'networking.cniName',
      `Unsupported value: ${JSON.stringify(cniName.slice(0, 64))}: k3s brings "flannel"; others need cniManifestURL`,
      'FieldValueNotSupported',
    );
  }
  if (!cniManifestURL && cniVersion)
    wrong('networking.cniVersion', 'Forbidden: the version of flannel comes with k3s', 'FieldValueForbidden');
  if (cilium) wrong('networking.cilium', 'Forbidden: with k3s cilium is installed by cniManifestURL', 'FieldValueForbidden');
  if (storage?.clusterCsi?.version)
    wrong('storage.clusterCsi.version', 'Forbidden: the version of the driver comes with k3s', 'FieldValueForbidden');

  for (const name of Object.keys(extraArgs ?? {})) {
    const [component = '', ...rest] = name.split('.');
    const flag = rest.join('.');
    const field = `extraArgs[${name.slice(0, 64)}]`;
    if (!COMPONENTS.includes(component))
      wrong(field, `Unsupported value: components of k3s are ${COMPONENTS.join(' and ')}`, 'FieldValueNotSupported');
    else if (component === 'server' && Object.hasOwn(TAKEN, flag)) wrong(field, `Forbidden: ${TAKEN[flag]}`, 'FieldValueForbidden');
  }

  const validity = certificates?.validityPeriod ? parseDuration(certificates.validityPeriod) : undefined;
  if (validity !== undefined && (validity < DAY_MS || validity % DAY_MS !== 0)) {
    wrong('certificates.validityPeriod', 'Invalid value: k3s counts whole days: must be a multiple of 24h');
  }
  if (certificates?.caValidityPeriod && parseDuration(certificates.caValidityPeriod) !== 3_650 * DAY_MS) {
    wrong('certificates.caValidityPeriod', "Forbidden: k3s's own CAs live ten years (87600h)", 'FieldValueForbidden');
  }
  if (upgrade?.componentTimeout)
    wrong('upgrade.componentTimeout', 'Forbidden: k3s runs its control plane in one process', 'FieldValueForbidden');
  return causes;
}
