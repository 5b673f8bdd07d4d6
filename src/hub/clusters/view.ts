import { type ManagedCluster, registrationName } from '../../kube/clusternet.ts';
import { type ClusterDirectory, managedKey } from './directory.ts';
import type { ClusterRoom } from './room.ts';
import { API_VERSION, type ClusterPhase, type InfraCluster } from './schema.ts';

/** Marks of distributions in the version of Kubernetes. */
const DISTRIBUTIONS: [RegExp, string][] = [
  [/[+-]k3s/, 'k3s'],
  [/[+-]rke2/, 'rke2'],
  [/-eks-/, 'eks'],
  [/-gke\./, 'gke'],
  [/-aliyun\./, 'ack'],
  [/-tke\./, 'tke'],
];

/** A ManagedCluster as InfraCluster. `name`: see `shownNames`. */
export function infraCluster(
  cluster: ManagedCluster,
  name: string,
  room: Pick<ClusterRoom, 'directory' | 'connections' | 'settings'>,
): InfraCluster {
  const { metadata, spec, status = {} } = cluster;
  const connection = room.connections.get(spec.clusterId);
  const { phase, message } = phaseOf(cluster, room.directory);
  const { directURL, directCA } = room.settings;
  const ca = directCA?.();
  const distribution = DISTRIBUTIONS.find(([mark]) => mark.test(status.k8sVersion ?? ''))?.[1];
  const lastSeen = connection?.lastSeen.toISOString() ?? status.lastObservedTime;
  const agentVersion = connection?.agentVersion ?? status.agentVersion;
  return {
    apiVersion: API_VERSION,
    kind: 'InfraCluster',
    metadata: {
      name,
      ...(metadata.uid && { uid: metadata.uid }),
      resourceVersion: metadata.resourceVersion,
      ...(metadata.creationTimestamp && { creationTimestamp: metadata.creationTimestamp }),
      ...(metadata.deletionTimestamp && { deletionTimestamp: metadata.deletionTimestamp }),
      ...(metadata.labels && { labels: metadata.labels }),
    },
    spec: {
      clusterID: spec.clusterId,
      ...(spec.clusterType && { type: spec.clusterType }),
      namespace: metadata.namespace ?? '',
      managedClusterName: metadata.name,
    },
    status: {
      phase,
      ...(message && { message }),
      ...(status.k8sVersion && { version: status.k8sVersion }),
      ...(distribution && { distribution }),
      ...(status.platform && { platform: status.platform }),
      ...(agentVersion && { agentVersion }),
      ...(status.apiserverURL && { apiserverURL: status.apiserverURL }),
      connected: connection?.connected ?? false,
      ...(connection && { since: connection.since.toISOString(), protocol: connection.protocol, tunnels: connection.tunnels }),
      ...(lastSeen && { lastSeen }),
      ...(connection?.connected && connection.roundTripMs !== undefined && { roundTripMilliseconds: rounded(connection.roundTripMs) }),
      ...(room.directory.trust.of(spec.clusterId).insecure && { tlsVerified: false }),
      ...(directURL && { directURL }),
      ...(directURL && ca && { directCA: Buffer.from(ca).toString('base64') }),
    },
  };
}

const rounded = (milliseconds: number) => Math.round(milliseconds * 100) / 100;

function phaseOf({ metadata, spec, status }: ManagedCluster, directory: ClusterDirectory): { phase: ClusterPhase; message?: string } {
  const request = directory.requests.get(registrationName(spec.clusterId));
  const own = request?.status?.managedClusterName === metadata.name && request.status.dedicatedNamespace === metadata.namespace;
  if (own && (request.spec.decision === 'Denied' || request.status?.result === 'Denied'))
    return { phase: 'Denied', message: request.status?.errorMessage ?? 'denied by an administrator' };
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  if (!ready || !status?.lastObservedTime) return { phase: 'Pending', message: 'the agent has not posted yet' };
  if (ready.status === 'True') return { phase: 'Ready' };
  return { phase: ready.status === 'False' ? 'NotReady' : 'Unknown', message: ready.message };
}

/** Under which names ManagedClusters are shown: of those with one name the oldest has it, the others have their cluster id. */
export function shownNames(clusters: ClusterDirectory['clusters'], signal: AbortSignal) {
  let names: Map<string, string> | undefined;
  let keys: Map<string, string> | undefined;
  clusters.onChange(({ name, object }) => {
    // A new status changes no name.
    if (name === undefined || !object || !names?.has(name)) {
      names = undefined;
      keys = undefined;
    }
  }, signal);

  function rebuild() {
    const [byKey, byName] = [new Map<string, string>(), new Map<string, string>()];
    for (const { metadata, spec } of [...clusters.values()].sort(byAge)) {
      const key = managedKey(metadata.namespace ?? '', metadata.name);
      const name = byName.has(metadata.name) ? spec.clusterId : metadata.name;
      byKey.set(key, name);
      if (!byName.has(name)) byName.set(name, key);
    }
    // An id is a name too, as long as nobody is called so.
    for (const { metadata, spec } of clusters.values())
      if (!byName.has(spec.clusterId)) byName.set(spec.clusterId, managedKey(metadata.namespace ?? '', metadata.name));
    names = byKey;
    keys = byName;
    return { byKey, byName };
  }
  return {
    /** The shown name of a ManagedCluster. One that the watch has not told of yet has its own. */
    nameOf: ({ metadata }: ManagedCluster): string =>
      (names ?? rebuild().byKey).get(managedKey(metadata.namespace ?? '', metadata.name)) ?? metadata.name,
    /** `namespace/name` of what is shown under the name, or has it as its id. */
    keyOf: (name: string): string | undefined => (keys ?? rebuild().byName).get(name),
  };
}

const byAge = (a: ManagedCluster, b: ManagedCluster): number =>
  (a.metadata.creationTimestamp ?? '').localeCompare(b.metadata.creationTimestamp ?? '') ||
  (a.metadata.uid ?? '').localeCompare(b.metadata.uid ?? '');
