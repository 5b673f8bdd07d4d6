import type { KubeClient } from '../../kube/client.ts';
import { CLUSTERS_API, type ClusterRegistrationRequest, type ManagedCluster, registrationName } from '../../kube/clusternet.ts';
import { KubeError } from '../../kube/errors.ts';
import { type WatchCache, watchCache } from '../../kube/watch-cache.ts';
import type { SocketCluster } from '../sockets/clusters.ts';
import { type ChildTrust, NO_TRUST } from './child-trust.ts';
import { clusterIDOf } from './names.ts';

/** All requests and ManagedClusters of the parent, kept up to date by watches. Requests are without their credentials. */
export type ClusterDirectory = {
  requests: WatchCache<ClusterRegistrationRequest>;
  /** Keys are `namespace/name`. */
  clusters: WatchCache<ManagedCluster>;
  /** The cluster when it is approved and not deleted. */
  find(id: string): SocketCluster | undefined;
  /** By what the hub knows the API servers of children of clusternet's agents. */
  trust: ChildTrust;
  approved(): Iterable<SocketCluster>;
  /** Both lists are in, or there are no CRDs and so no clusters. */
  synced(): boolean;
  /** The CRDs are not installed, as far as is known. */
  absent(): boolean;
  /** What `find` answers for the cluster has changed. */
  onChange(listener: (id: string) => void, signal: AbortSignal): void;
};

export const managedKey = (namespace: string, name: string): string => `${namespace}/${name}`;

export function clusterDirectory(options: {
  client: KubeClient;
  trust?: ChildTrust | undefined;
  signal: AbortSignal;
  onError: (error: unknown) => void;
  /** How soon CRDs that were not there are looked for again, in milliseconds; default 5,000. */
  absentMs?: number;
}): ClusterDirectory {
  const { client, signal, trust = NO_TRUST } = options;
  const missing = new Set<string>();
  const listeners = new Set<(id: string) => void>();
  /** What was answered last, as text, and which cluster a ManagedCluster was of. */
  const known = new Map<string, string>();
  const idOf = new Map<string, string>();
  const timing = { absentMs: options.absentMs ?? 5_000 };

  const onError = (collection: string) => (error: unknown) => {
    // A parent without the CRDs has no child clusters: that is no trouble.
    if (error instanceof KubeError && error.code === 404) missing.add(collection);
    else options.onError(error);
  };
  const requests = watchCache<ClusterRegistrationRequest, ClusterRegistrationRequest>({
    client,
    path: `${CLUSTERS_API}/clusterregistrationrequests`,
    transform: withoutCredentials,
    signal,
    onError: onError('requests'),
    timing,
  });
  const clusters = watchCache<ManagedCluster, ManagedCluster>({
    client,
    path: `${CLUSTERS_API}/managedclusters`,
    key: ({ metadata }) => managedKey(metadata.namespace ?? '', metadata.name),
    transform: (cluster) => ({ ...cluster, metadata: withoutManagers(cluster.metadata) }),
    signal,
    onError: onError('clusters'),
    timing,
  });

  function find(id: string): SocketCluster | undefined {
    const request = requests.get(registrationName(id));
    if (!request || request.spec.clusterId !== id || !isLetIn(request)) return undefined;
    const { dedicatedNamespace = '', managedClusterName = '', credentialIDs } = request.status ?? {};
    const cluster = clusters.get(managedKey(dedicatedNamespace, managedClusterName));
    if (cluster?.spec.clusterId !== id || cluster.metadata.deletionTimestamp) return undefined;
    const { ca, insecure } = trust.of(id);
    return {
      id,
      name: managedClusterName,
      namespace: dedicatedNamespace,
      apiserverURL: cluster.status?.apiserverURL,
      childCA: ca,
      childInsecure: insecure,
      credentialIDs,
    };
  }

  function look(id: string): void {
    const found = find(id);
    const text = found ? JSON.stringify(found) : '';
    if ((known.get(id) ?? '') === text) return;
    if (text === '') known.delete(id);
    else known.set(id, text);
    for (const listener of listeners) {
      try {
        listener(id);
      } catch (error) {
        options.onError(error);
      }
    }
  }
  const ids = () => new Set([...known.keys(), ...[...requests.values()].map(({ spec }) => spec.clusterId)]);

  requests.onChange(({ name }) => {
    missing.delete('requests');
    for (const id of name === undefined ? ids() : [clusterIDOf(name) ?? '']) look(id);
  }, signal);
  clusters.onChange(({ name, object }) => {
    missing.delete('clusters');
    if (name === undefined) {
      idOf.clear();
      for (const { metadata, spec } of clusters.values()) idOf.set(managedKey(metadata.namespace ?? '', metadata.name), spec.clusterId);
      for (const id of ids()) look(id);
      return;
    }
    const id = object?.spec.clusterId ?? idOf.get(name);
    if (object) idOf.set(name, object.spec.clusterId);
    else idOf.delete(name);
    if (id !== undefined) look(id);
  }, signal);

  trust.onChange((id) => {
    for (const one of id === undefined ? ids() : [id]) look(one);
  }, signal);

  return {
    requests,
    clusters,
    find,
    trust,
    *approved() {
      for (const { spec } of requests.values()) {
        const found = find(spec.clusterId);
        if (found) yield found;
      }
    },
    synced: () => (requests.synced() || missing.has('requests')) && (clusters.synced() || missing.has('clusters')),
    absent: () => missing.has('requests') || missing.has('clusters'),
    onChange(listener, until) {
      if (until.aborted) return;
      listeners.add(listener);
      until.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
  };
}

const isLetIn = ({ metadata, spec, status }: ClusterRegistrationRequest): boolean =>
  status?.result === 'Approved' && spec.decision !== 'Denied' && metadata.deletionTimestamp === undefined;

/** Credentials are never kept in memory longer than they are being written. */
function withoutCredentials(request: ClusterRegistrationRequest): ClusterRegistrationRequest {
  const { token: _token, sealedToken: _sealed, caCertificate: _ca, ...status } = request.status ?? {};
  return { ...request, metadata: withoutManagers(request.metadata), ...(request.status && { status }) };
}

function withoutManagers<M extends object>(metadata: M): M {
  return { ...metadata, managedFields: undefined };
}
