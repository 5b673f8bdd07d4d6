import type { Registry } from 'prom-client';
import type { KubeClient } from '../../kube/client.ts';
import type { EventRecorder } from '../../kube/events.ts';
import type { Leadership } from '../../kube/leader-election.ts';
import { conflict, notFound, serviceUnavailable } from '../../kube/status.ts';
import type { ApiResource, Subresource } from '../http/resource.ts';
import type { SocketCluster, SocketClusters } from '../sockets/clusters.ts';
import type { ClusterConnections } from './connections.ts';
import { clusterDirectory } from './directory.ts';
import { clusterMetrics } from './metrics.ts';
import { runRegistrations } from './registrations.ts';
import { clusterResources } from './resources.ts';
import type { ClusterRoom, LeadingRoom } from './room.ts';
import { GROUP } from './schema.ts';
import { type ClusterSettings, MIN_TOKEN_SECONDS } from './settings.ts';
import { socketClusters } from './socket-clusters.ts';
import { shownNames } from './view.ts';
import { watchStatus } from './watch-status.ts';

export type ClusterRoomOptions = {
  client: KubeClient;
  /** The tunnels of all replicas. */
  connections: ClusterConnections;
  settings: ClusterSettings;
  registry: Registry;
  events: EventRecorder;
  /** What is answered below a cluster by others. `find` gives the cluster of a name; it throws StatusError 404, 409 or 503. */
  subresources?: (find: (name: string) => SocketCluster) => Subresource[];
  signal: AbortSignal;
  onError: (error: unknown) => void;
};

/** Everything about child clusters but the traffic to them. */
export type Clusters = {
  resources: ApiResource[];
  sockets: SocketClusters;
  /** Registration and the status of clusters; only in the replica that leads. */
  lead: (leadership: Leadership) => Promise<void>;
  /** Named checks; undefined means ready. */
  checks: Record<string, () => string | undefined>;
};

/** Throws an Error when the settings make no sense. */
export function clusterRoom(options: ClusterRoomOptions): Clusters {
  const { client, connections, settings, events, signal, onError } = options;
  if (settings.tokenSeconds < MIN_TOKEN_SECONDS)
    throw new Error(`tokens of agents must live at least ${MIN_TOKEN_SECONDS} s, not ${settings.tokenSeconds} s`);
  const directory = clusterDirectory({ client, trust: settings.childTrust, signal, onError });
  const metrics = clusterMetrics(options.registry, {
    approved: () => [...directory.approved()].length,
    connected: () => [...directory.approved()].filter(({ id }) => connections.get(id)?.connected).length,
  });
  const room: ClusterRoom = { client, directory, connections, settings, events, metrics, onError };
  const failure = () => directory.requests.failure() ?? directory.clusters.failure();
  const names = shownNames(directory.clusters, signal);
  const find = (name: string): SocketCluster => {
    if (!directory.synced()) throw serviceUnavailable('the clusters are not read yet; try again');
    const object = { group: GROUP, kind: 'clusters', name };
    const cluster = directory.clusters.get(names.keyOf(name) ?? '');
    if (!cluster) throw notFound(object);
    const found = directory.find(cluster.spec.clusterId);
    if (!found) throw conflict(object, 'the cluster is not let in: it has not been approved yet, was denied, or is being removed');
    return found;
  };
  return {
    resources: clusterResources(room, names, options.subresources?.(find) ?? []),
    sockets: socketClusters({ client, directory, events, signal, onError }),
    async lead(leadership) {
      const leading: LeadingRoom = { ...room, signal: leadership.signal, holds: leadership.holds, names: new Map() };
      await Promise.all([runRegistrations(leading), watchStatus(leading)]);
    },
    checks: { clusters: () => (directory.synced() ? undefined : `clusters not read yet${failure() ? `: ${failure()}` : ''}`) },
  };
}
