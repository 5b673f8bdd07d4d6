import type { Condition, ManagedCluster } from '../../kube/clusternet.ts';
import type { Connection } from './connections.ts';

/** When what was heard of a cluster, in milliseconds of one clock. The agents' own clocks are not compared with ours. */
export type Heard = {
  /** Since when this replica looks (it became the leader), or the cluster is there. */
  firstSeen: number;
  /** When the status was last seen to have a new lastObservedTime; undefined when not since `firstSeen`. */
  posted: number | undefined;
};

export type VerdictTimes = {
  /** Silence after the last tunnel of a cluster, in milliseconds. */
  unknownAfterMs: number;
  /** A replica that has just become the leader may not have heard of all tunnels. */
  graceMs: number;
};

/** What an agent posts that does not say how often. clusternet's default. */
const HEARTBEAT_SECONDS = 180;
/** A status that was on its way when the tunnel ended. */
const POSTED_LATE_MS = 5_000;

/** Why nothing is known of the cluster; undefined when something is, or when it is too early to tell. All times in milliseconds, `now` by the clock of `heard` and `connection`. */
export function silence(
  cluster: ManagedCluster,
  connection: Connection | undefined,
  heard: Heard,
  times: VerdictTimes,
  now: number,
): { reason: string; message: string } | undefined {
  const { status } = cluster;
  const watched = now - heard.firstSeen;
  if (!status?.lastObservedTime) {
    if (watched < times.graceMs + times.unknownAfterMs) return undefined;
    return { reason: 'ClusterStatusNeverUpdated', message: 'The agent has never posted the status of the cluster.' };
  }
  const stopped = (message: string) => ({ reason: 'ClusterStatusUnknown', message });
  const heartbeatMs = (status.heartbeatFrequencySeconds || HEARTBEAT_SECONDS) * 1_000;
  const postedAgo = now - (heard.posted ?? heard.firstSeen);
  const bySocket = status.useSocket === true || connection !== undefined;
  if (bySocket && connection?.connected) return undefined;
  const ended = connection ? connection.since.getTime() : heard.firstSeen;
  // An agent that posts without a tunnel lives, and is judged by what it posts.
  if (bySocket && (heard.posted ?? Number.NEGATIVE_INFINITY) <= ended + POSTED_LATE_MS) {
    const patience = connection ? times.unknownAfterMs : times.graceMs;
    if (now - ended < patience) return undefined;
    return stopped(connection ? `The tunnel ended at ${connection.since.toISOString()}.` : 'The cluster has no tunnel.');
  }
  if (postedAgo < 3 * heartbeatMs) return undefined;
  return stopped('The agent stopped posting the status of the cluster.');
}

/** The conditions as the hub wants them, or undefined when they are so. */
export function wantedConditions(
  cluster: ManagedCluster,
  silent: { reason: string; message: string } | undefined,
  insecure: boolean,
  now: Date,
): Condition[] | undefined {
  const before = cluster.status?.conditions ?? [];
  let after = before;
  const set = (condition: Omit<Condition, 'lastTransitionTime'>) => {
    const present = after.find(({ type }) => type === condition.type);
    if (present?.status === condition.status && present.reason === condition.reason) return;
    const lastTransitionTime = present?.status === condition.status ? present.lastTransitionTime : `${now.toISOString().slice(0, 19)}Z`;
    after = [...after.filter(({ type }) => type !== condition.type), { ...condition, lastTransitionTime }];
  };
  if (silent) set({ type: 'Ready', status: 'Unknown', ...silent });
  if (insecure) {
    set({
      type: 'TLSVerified',
      status: 'False',
      reason: 'VerificationTurnedOff',
      message:
        'insecure-skip-tls-verify in a ConfigMap of the hub lets anybody between agent and API server of the cluster read and change what is sent.',
    });
  } else if (after.some(({ type }) => type === 'TLSVerified')) after = after.filter(({ type }) => type !== 'TLSVerified');
  return after === before ? undefined : after;
}
