import { isIPv6 } from 'node:net';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { StatusCause } from '../../../../kube/status.ts';
import type { Facts } from '../../machine/machine.ts';
import { isReserved } from '../common/cidr.ts';
import { canonicalVersion, parseVersion } from '../common/versions.ts';
import { isBridge } from './cni.ts';
import { podNetworks, serviceNetworks } from './networks.ts';
import { LOCAL_PATH_VERSION, wantsLocalPath } from './storage.ts';

const POD_SUBNET = '100.100.0.0/16';
const SERVICE_SUBNET = '100.101.0.0/16';
/** The first minor whose kubeadm reads v1beta4, and the last that this was made for. */
const MINORS = { first: 31, last: 37 };
const COMPONENTS = ['apiServer', 'controllerManager', 'scheduler', 'etcd', 'kubelet'];
const MANIFEST_NETWORKS = ['cilium', 'flannel', 'calico'];

/** Flags that the agent, kubeadm or the spec's own fields set: two masters would break the cluster. */
const TAKEN: Readonly<Record<string, readonly (string | RegExp)[]>> = {
  apiServer: [
    'advertise-address',
    'secure-port',
    'bind-address',
    'client-ca-file',
    'service-cluster-ip-range',
    'authorization-mode',
    'enable-bootstrap-token-auth',
    'egress-selector-config-file',
    /^etcd-/,
    /^tls-(cert|private)/,
    /^kubelet-/,
    /^requestheader-/,
    /^proxy-client-/,
    /^service-account-/,
  ],
  controllerManager: [
    'kubeconfig',
    'cluster-cidr',
    'service-cluster-ip-range',
    'allocate-node-cidrs',
    'cluster-name',
    'root-ca-file',
    /^authenti|^authoriz/,
    /^cluster-signing-(cert|key)/,
    /private-key-file$/,
    /^node-cidr-mask/,
  ],
  scheduler: ['kubeconfig', /^authenti|^authoriz/],
  etcd: ['name', 'data-dir', 'snapshot-restore', /^(listen|advertise|initial)-/, /cert|trusted-ca|key-file|client-cert/],
  kubelet: [
    'config',
    'kubeconfig',
    'bootstrap-kubeconfig',
    'container-runtime-endpoint',
    'hostname-override',
    'node-ip',
    'cgroup-driver',
    'root-dir',
    'pod-manifest-path',
    'cert-dir',
  ],
};
/** Settings that give the cluster, or the node, to whoever reaches the port. */
const OPEN: Readonly<Record<string, string>> = {
  'kubelet.anonymous-auth': 'true',
  'kubelet.authorization-mode': 'AlwaysAllow',
  'kubelet.read-only-port': '',
};

const wrong = (field: string, message: string): StatusCause => ({ reason: 'FieldValueInvalid', field: `spec.${field}`, message });
const required = (field: string, message: string): StatusCause => ({
  reason: 'FieldValueRequired',
  field: `spec.${field}`,
  message: `Required value: ${message}`,
});

/** The spec with everything that was left open. */
export function kubeadmDefaults(spec: ClusterSpec, facts: Facts): ClusterSpec {
  const { networking = {}, storage } = spec;
  const csi = storage?.clusterCsi;
  const [pods, services] =
    facts.addresses.every(isIPv6) && facts.addresses.length > 0 ? ['fd64::/56', 'fd65::/112'] : [POD_SUBNET, SERVICE_SUBNET];
  return {
    ...spec,
    clusterName: spec.clusterName || facts.hostname.toLowerCase().replaceAll('.', '-'),
    ...(spec.version && { version: canonicalVersion(spec.version) }),
    networking: {
      ...networking,
      podSubnet: networking.podSubnet || pods,
      svcSubnet: networking.svcSubnet || services,
      ...(!networking.cniManifestURL && { cniName: networking.cniName || 'bridge' }),
    },
    ...(wantsLocalPath(spec) && { storage: { clusterCsi: { ...csi, version: csi?.version || LOCAL_PATH_VERSION } } }),
    disableWorkloads: spec.disableWorkloads ?? false,
  };
}

/** What is wrong with a complete spec, for kubeadm; rules that hold for every distribution are not among these. */
export function validateKubeadm(spec: ClusterSpec, facts: Facts): StatusCause[] {
  return [...versionProblems(spec), ...networkProblems(spec, facts), ...argumentProblems(spec)];
}

function versionProblems({ version }: ClusterSpec): StatusCause[] {
  if (!version) return [required('version', 'the version of Kubernetes, as v1.36.3')];
  const parsed = parseVersion(version);
  if (!parsed || parsed.build) return [wrong('version', `${version} is not a version of Kubernetes: expected a form like v1.36.3`)];
  if (parsed.major !== 1 || parsed.minor < MINORS.first || parsed.minor > MINORS.last) {
    return [wrong('version', `${version} is not supported: v1.${MINORS.first} to v1.${MINORS.last} are`)];
  }
  return [];
}

function networkProblems(spec: ClusterSpec, facts: Facts): StatusCause[] {
  const causes: StatusCause[] = [];
  for (const pod of podNetworks(spec)) {
    const [least, most] = pod.family === 4 ? [8, 25] : [40, 120];
    if (pod.prefix < least || pod.prefix > most)
      causes.push(wrong('networking.podSubnet', `${pod.text} must be between /${least} and /${most}`));
    if (isReserved(pod)) causes.push(wrong('networking.podSubnet', `${pod.text} is loopback, link-local or multicast`));
  }
  for (const service of serviceNetworks(spec)) {
    const [least, most] = service.family === 4 ? [12, 28] : [108, 124];
    if (service.prefix < least || service.prefix > most)
      causes.push(wrong('networking.svcSubnet', `${service.text} must be between /${least} and /${most}`));
    if (isReserved(service)) causes.push(wrong('networking.svcSubnet', `${service.text} is loopback, link-local or multicast`));
  }
  for (const family of new Set(serviceNetworks(spec).map((service) => service.family))) {
    if (!facts.addresses.some((address) => isIPv6(address) === (family === 6)))
      causes.push(wrong('networking.svcSubnet', `the machine has no IPv${family} address`));
  }
  const { cniName, cniManifestURL, cniVersion } = spec.networking ?? {};
  if (cniName && cniName !== 'bridge' && !MANIFEST_NETWORKS.includes(cniName)) {
    causes.push(wrong('networking.cniName', `${cniName} is not known: bridge, ${MANIFEST_NETWORKS.join(', ')} are`));
  } else if (cniName && cniName !== 'bridge' && !cniManifestURL)
    causes.push(required('networking.cniManifestURL', `${cniName} comes from a manifest`));
  else if (cniName === 'bridge' && cniManifestURL)
    causes.push(wrong('networking.cniManifestURL', 'the built-in bridge has no manifest: leave one of the two out'));
  if (cniVersion && isBridge(spec)) {
    const message = 'Forbidden: the version of the built-in bridge comes with the agent';
    causes.push({ reason: 'FieldValueForbidden', field: 'spec.networking.cniVersion', message });
  }
  return causes;
}

function argumentProblems(spec: ClusterSpec): StatusCause[] {
  const causes: StatusCause[] = [];
  for (const [name, value] of Object.entries(spec.extraArgs ?? {})) {
    const field = `extraArgs[${name.slice(0, 64)}]`;
    const dot = name.indexOf('.');
    const [component, flag] = [name.slice(0, dot), name.slice(dot + 1)];
    if (dot < 0 || !COMPONENTS.includes(component)) causes.push(wrong(field, `the component must be one of ${COMPONENTS.join(', ')}`));
    else if (TAKEN[component]?.some((taken) => (typeof taken === 'string' ? taken === flag : taken.test(flag)))) {
      causes.push(wrong(field, `${flag} of ${component} is set by the agent`));
    } else if (opens(name, value)) causes.push(wrong(field, `${flag}=${value} lets everybody who reaches the port in`));
  }
  return causes;
}

function opens(name: string, value: string): boolean {
  const dangerous = OPEN[name];
  if (dangerous === undefined) return false;
  return dangerous === '' ? value !== '0' : value === dangerous;
}
