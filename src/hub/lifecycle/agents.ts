import type { StatusError } from '../../kube/status.ts';
import type { Upstream } from '../../tunnel/upstream.ts';

/** A cluster, by the name that it is asked for. */
export type AgentCluster = {
  /** Cluster id. */
  id: string;
  name: string;
};

/** What this room must know of clusters and the ways to their agents. Put together at the root of the hub. */
export type Agents = {
  /** Throws StatusError 404 for a cluster that is not known, 409 for one that is not let in, 503 while that is not known yet. */
  find(name: string): AgentCluster;
  /** The way to its agent, here or by another replica. Rejects with StatusError 503 with since when it is away. */
  upstream(cluster: AgentCluster): Promise<Upstream>;
  /** Whose agent holds its tunnel: `fairlead` or `clusternet`; undefined when there is none. */
  protocol(cluster: AgentCluster): string | undefined;
  /** Why a request was not carried, as a Status. */
  failure(error: Error): StatusError;
};
