import { isIPv6 } from 'node:net';
import { stringify } from 'yaml';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { Facts } from '../../machine/machine.ts';
import { nodeName } from '../common/node-state.ts';
import { cgroupDriver } from './containerd-config.ts';
import { isDualStack, nodeMask, podNetworks, serviceNetworks } from './networks.ts';
import { CONTAINERD_SOCKET } from './paths.ts';

/** What the spec alone does not say. */
export type ConfigFacts = {
  facts: Facts;
  repository: string;
  /** False where the kernel does not let a container set nf_conntrack_max: in a network namespace that is not the first one. */
  conntrackWritable: boolean;
};

export const API = 'kubeadm.k8s.io/v1beta4';
/** TLS 1.2 with forward secrecy and authenticated encryption; TLS 1.3 has no others. */
const CIPHERS = [
  'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256',
  'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256',
  'TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384',
  'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384',
  'TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256',
  'TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256',
];

type Arguments = Record<string, string>;
const list = (args: Arguments) => Object.entries(args).map(([name, value]) => ({ name, value }));

/** The arguments of one component that the spec adds. */
export function extraArgs(spec: ClusterSpec, component: string): Arguments {
  const entries = Object.entries(spec.extraArgs ?? {}).filter(([name]) => name.startsWith(`${component}.`));
  return Object.fromEntries(entries.map(([name, value]) => [name.slice(component.length + 1), value]));
}

/** The address that the API server is reached at: the first of the machine, of the family of the Services' first network. */
export function nodeAddress(spec: ClusterSpec, facts: Facts): string {
  const six = serviceNetworks(spec)[0]?.family === 6;
  return facts.addresses.find((address) => isIPv6(address) === six) ?? facts.addresses[0] ?? '';
}

const endpoint = (address: string) => `${isIPv6(address) ? `[${address}]` : address}:6443`;

/** Addresses of the node, one of each family that the cluster has. */
function nodeAddresses(spec: ClusterSpec, facts: Facts): string[] {
  const first = nodeAddress(spec, facts);
  const other = isDualStack(spec) ? facts.addresses.find((address) => isIPv6(address) !== isIPv6(first)) : undefined;
  return other ? [first, other] : [first];
}

function nodeMasks(spec: ClusterSpec): Arguments {
  const pods = podNetworks(spec);
  if (pods.length === 1) return { 'node-cidr-mask-size': String(pods[0] ? nodeMask(pods[0]) : 24) };
  return Object.fromEntries(pods.map((pod) => [`node-cidr-mask-size-ipv${pod.family}`, String(nodeMask(pod))]));
}

/**
 * kubeadm's whole configuration for one node: no leader election, no profiling, no taint, images that are never collected (there is nowhere to get them again),
 * timers of etcd for slow disks. The node's own address is the endpoint.
 */
export function kubeadmDocuments(spec: ClusterSpec, given: ConfigFacts): Record<string, unknown>[] {
  const { facts } = given;
  const addresses = nodeAddresses(spec, facts);
  const quiet = { 'leader-elect': 'false', profiling: 'false' };
  const { validityPeriod, caValidityPeriod } = spec.certificates ?? {};
  const kubeletArgs = { 'node-ip': addresses.join(','), ...extraArgs(spec, 'kubelet') };
  return [
    {
      apiVersion: API,
      kind: 'InitConfiguration',
      localAPIEndpoint: { advertiseAddress: addresses[0], bindPort: 6443 },
      nodeRegistration: {
        name: nodeName(facts.hostname),
        criSocket: CONTAINERD_SOCKET,
        imagePullPolicy: 'IfNotPresent',
        taints: [],
        kubeletExtraArgs: list(kubeletArgs),
      },
      timeouts: { controlPlaneComponentHealthCheck: '5m0s', upgradeManifests: '5m0s' },
    },
    {
      apiVersion: API,
      kind: 'ClusterConfiguration',
      kubernetesVersion: spec.version,
      clusterName: spec.clusterName,
      controlPlaneEndpoint: endpoint(addresses[0] ?? ''),
      imageRepository: given.repository,
      networking: { podSubnet: spec.networking?.podSubnet, serviceSubnet: spec.networking?.svcSubnet },
      ...(validityPeriod && { certificateValidityPeriod: validityPeriod }),
      ...(caValidityPeriod && { caCertificateValidityPeriod: caValidityPeriod }),
      apiServer: {
        certSANs: [...new Set(['localhost', '127.0.0.1', ...addresses, ...(spec.apiServer?.certSANs ?? [])])],
        extraArgs: list({ profiling: 'false', 'tls-cipher-suites': CIPHERS.join(','), ...extraArgs(spec, 'apiServer') }),
      },
      controllerManager: { extraArgs: list({ ...quiet, ...nodeMasks(spec), ...extraArgs(spec, 'controllerManager') }) },
      scheduler: { extraArgs: list({ ...quiet, ...extraArgs(spec, 'scheduler') }) },
      etcd: {
        local: {
          dataDir: '/var/lib/etcd',
          extraArgs: list({
            'heartbeat-interval': '500',
            'election-timeout': '2500',
            'cipher-suites': CIPHERS.join(','),
            ...extraArgs(spec, 'etcd'),
          }),
        },
      },
      ...(spec.networking?.cilium?.installKubeProxy === false && { proxy: { disabled: true } }),
    },
    kubeletConfiguration(facts),
    kubeProxyConfiguration(given),
  ];
}

function kubeletConfiguration(facts: Facts): Record<string, unknown> {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    cgroupDriver: cgroupDriver(facts),
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    evictionHard: {
      'memory.available': '100Mi',
      'nodefs.available': '3%',
      'nodefs.inodesFree': '3%',
      'imagefs.available': '0%',
      'imagefs.inodesFree': '0%',
    },
    rotateCertificates: true,
    tlsCipherSuites: CIPHERS,
    ...(facts.cgroup === 1 && { failCgroupV1: false }),
    ...(!facts.mayRaiseLimits && { oomScoreAdj: 0 }),
    ...(facts.swap && { failSwapOn: false, memorySwap: { swapBehavior: 'NoSwap' } }),
  };
}

function kubeProxyConfiguration({ facts, conntrackWritable }: ConfigFacts): Record<string, unknown> {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    ...(!conntrackWritable && { conntrack: { maxPerCore: 0, min: 0 } }),
    ...(!facts.mayRaiseLimits && { oomScoreAdj: 0 }),
  };
}

/** The documents as one YAML text. */
export function kubeadmConfig(spec: ClusterSpec, given: ConfigFacts): string {
  return kubeadmDocuments(spec, given)
    .map((document) => stringify(document, { lineWidth: 0 }))
    .join('---\n');
}

/** Preflight errors of kubeadm that are known not to matter here; never all of them. */
export function ignoredPreflight(facts: Facts): string[] {
  return [
    // Says that cgroup v1 is refused; the kubelet is told to accept it.
    ...(facts.cgroup === 1 ? ['SystemVerification'] : []),
    ...(facts.cpus < 2 ? ['NumCPU'] : []),
    ...(facts.swap ? ['Swap'] : []),
  ];
}
