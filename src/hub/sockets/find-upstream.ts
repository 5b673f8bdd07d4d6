import { setTimeout as sleep } from 'node:timers/promises';
import { notFound, serviceUnavailable } from '../../kube/status.ts';
import type { Upstream } from '../../tunnel/upstream.ts';
import type { SocketCluster, SocketClusters } from './clusters.ts';
import { isMoving, MOVE_LOOK_MS, MOVE_MS } from './moving.ts';
import type { TunnelDirectory, TunnelEnd } from './tunnel-directory.ts';

/** Tunnels that end in other replicas. Implemented by peers/. */
export type PeerTunnels = {
  find(id: string): Upstream | undefined;
  /** What was last known of them. */
  connection(id: string): { since: Date } | undefined;
  /** The end of the last one; undefined while there is one. */
  lastEnd(id: string): TunnelEnd | undefined;
};

/** The cluster of a socket. Throws StatusError 404 when there is none, 503 while that is not known yet. */
export function findCluster(clusters: SocketClusters, id: string): SocketCluster {
  const cluster = clusters.find(id);
  if (cluster) return cluster;
  if (!clusters.synced()) throw serviceUnavailable('the hub has not read the list of clusters yet; try again');
  throw notFound({ group: 'proxies.clusternet.io', kind: 'sockets', name: id });
}

/**
 * The way to a cluster: a tunnel here, one in another replica, one here that is about to move. When the agent has just gone elsewhere, waits for a moment to learn where. Rejects with
 * StatusError 503 with since when the agent is away.
 */
export async function findUpstream(
  { id, name }: Pick<SocketCluster, 'id' | 'name'>,
  directory: TunnelDirectory,
  peers: PeerTunnels,
): Promise<Upstream> {
  const began = performance.now();
  // What its tunnel here still carries can take long: the agent has gone elsewhere, and no end is noted yet.
  const isLeaving = () => performance.now() - began < MOVE_MS && directory.of(id).some((tunnel) => tunnel.hasLeft());
  for (;;) {
    const upstream = directory.find(id)?.upstream ?? peers.find(id) ?? directory.lastResort(id)?.upstream;
    if (upstream) return upstream;
    if (!isLeaving() && !isMoving(directory.lastEnd(id)) && !isMoving(peers.lastEnd(id))) break;
    await sleep(MOVE_LOOK_MS);
  }
  const ends = [directory.lastEnd(id)?.since, peers.connection(id)?.since].filter((end) => end !== undefined);
  const since = ends.length === 0 ? undefined : new Date(Math.max(...ends.map((end) => end.getTime())));
  const when = since ? `since ${since.toISOString()}` : 'and has not been since this replica of the hub began';
  throw serviceUnavailable(`cluster ${name} (${id}) is not connected ${when}: its agent is away`);
}
