import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node';
import { parseDocument } from 'yaml';
import type { KubeClient } from '../../kube/client.ts';

/** Address ranges of a cluster; '' for what is not known. */
export type Ranges = { clusterCIDR: string; serviceCIDR: string };

const COMPONENTS = ['kube-controller-manager', 'kube-apiserver', 'kube-proxy'];
const MAX_PODS = 20;

/**
 * Looks the ranges up: the ServiceCIDR object, kubeadm's ConfigMap, then the flags of control-plane pods. There is no API that says it in every cluster, and
 * what the agent may not read is left out. Never throws.
 */
export async function lookUpRanges(client: KubeClient, signal: AbortSignal): Promise<Ranges> {
  const found: Ranges = { clusterCIDR: '', serviceCIDR: '' };
  for (const look of [serviceCIDRs, kubeadmConfig, controlPlaneFlags]) {
    if (found.clusterCIDR && found.serviceCIDR) break;
    const more = await look(client, signal).catch((): Partial<Ranges> => ({}));
    found.clusterCIDR ||= more.clusterCIDR ?? '';
    found.serviceCIDR ||= more.serviceCIDR ?? '';
  }
  return found;
}

async function serviceCIDRs(client: KubeClient, signal: AbortSignal): Promise<Partial<Ranges>> {
  const path = '/apis/networking.k8s.io/v1/servicecidrs/kubernetes';
  const { spec } = await client.request<{ spec?: { cidrs?: string[] } }>({ path, signal });
  return { serviceCIDR: spec?.cidrs?.join(',') ?? '' };
}

async function kubeadmConfig(client: KubeClient, signal: AbortSignal): Promise<Partial<Ranges>> {
  const path = '/api/v1/namespaces/kube-system/configmaps/kubeadm-config';
  const { data } = await client.request<V1ConfigMap>({ path, signal });
  const configuration: unknown = parseDocument(data?.['ClusterConfiguration'] ?? '').toJS({ maxAliasCount: 0 });
  const networking = field(configuration, 'networking');
  return { clusterCIDR: field(networking, 'podSubnet') ?? '', serviceCIDR: field(networking, 'serviceSubnet') ?? '' };
}

function field<T = string>(object: unknown, name: string): T | undefined {
  return typeof object === 'object' && object !== null ? (Reflect.get(object, name) as T | undefined) : undefined;
}

async function controlPlaneFlags(client: KubeClient, signal: AbortSignal): Promise<Partial<Ranges>> {
  const found: Partial<Ranges> = {};
  const { items } = await client.request<{ items: V1Pod[] }>({
    path: '/api/v1/namespaces/kube-system/pods',
    query: { labelSelector: `component in (${COMPONENTS.join(',')})`, limit: MAX_PODS },
    signal,
  });
  for (const argument of items.flatMap(
    ({ spec }) => spec?.containers.flatMap(({ command = [], args = [] }) => [...command, ...args]) ?? [],
  )) {
    const [name, value = ''] = argument.split('=', 2);
    if (name === '--cluster-cidr') found.clusterCIDR ??= value;
    if (name === '--service-cluster-ip-range') found.serviceCIDR ??= value;
  }
  return found;
}
