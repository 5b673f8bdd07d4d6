import { notFound, serviceUnavailable } from '../../kube/status.ts';
import type { Upstream } from '../../tunnel/upstream.ts';
import type { SocketCluster, SocketClusters } from './clusters.ts';
import type { TunnelDirectory } from './tunnel-directory.ts';

/** Tunnels that end in other replicas. Implemented by peers/. */
export type PeerTunnels = {
  find(id: string): Upstream | undefined;
  /** What was last known of them. */
  connection(id: string): { since: Date } | undefined;
};

/** The cluster of a socket. Throws StatusError 404 when there is none, 503 while that is not known yet. */
export function findCluster(clusters: SocketClusters, id: string): SocketCluster {
  const cluster = clusters.find(id);
  if (cluster) return cluster;
  if (!clusters.synced()) throw serviceUnavailable('the hub has not read the list of clusters yet; try again');
  throw notFound({ group: 'proxies.clusternet.io', kind: 'sockets', name: id });
}

/** The way to a cluster: a tunnel here, one in another replica, one here that is about to move. Throws StatusError 503 with since when the agent is away. */
export function findUpstream(cluster: Pick<SocketCluster, 'id' | 'name'>, directory: TunnelDirectory, peers: PeerTunnels): Upstream {
  const upstream =
    directory.find(cluster.id)?.upstream ??
    peers.find(cluster.id) ??
    directory.of(cluster.id).find(({ dismissed }) => !dismissed)?.upstream;
  if (upstream) return upstream;
  const since = directory.lastEnd(cluster.id) ?? peers.connection(cluster.id)?.since;
  const when = since ? `since ${since.toISOString()}` : 'and has not been since this replica of the hub began';
  throw serviceUnavailable(`cluster ${cluster.name} (${cluster.id}) is not connected ${when}: its agent is away`);
}
