import type { Condition, ManagedClusterStatus } from '../../kube/clusternet.ts';
import type { Ranges } from './cidrs.ts';
import type { Probed } from './probes.ts';

/** What is known of the child at one moment. `server` is the address of its API server. */
export type Observed = {
  child:
    | { server: string; probed: Probed; ranges: Ranges; nodes: Pick<ManagedClusterStatus, 'nodeStatistics' | 'allocatable' | 'capacity'> }
    | undefined;
  agentVersion: string;
  /** Of the machine, for an agent without a cluster. */
  platform: string;
  heartbeatMs: number;
};

/** A merge patch of the status: what is left out stays, null takes away. */
export type StatusPatch = { [Field in keyof ManagedClusterStatus]: ManagedClusterStatus[Field] | null };

/** What only a cluster has. */
const OF_A_CLUSTER = {
  k8sVersion: null,
  apiserverURL: null,
  clusterCIDR: null,
  serviceCIDR: null,
  nodeStatistics: null,
  allocatable: null,
  capacity: null,
} satisfies StatusPatch;

/** The status without times. What is not known at the moment is left out and stays as it was; what a cluster said that is not there any more is taken away. */
export function clusterStatus({ child, agentVersion, platform, heartbeatMs }: Observed): StatusPatch {
  const common = { agentVersion, useSocket: true, appPusher: false, heartbeatFrequencySeconds: Math.round(heartbeatMs / 1_000) };
  if (!child) return { ...common, ...OF_A_CLUSTER, platform, healthz: false, livez: false, readyz: false };
  const { probed, ranges, nodes, server } = child;
  return {
    ...common,
    ...(probed.k8sVersion && { k8sVersion: probed.k8sVersion }),
    ...(probed.platform && { platform: probed.platform }),
    healthz: probed.healthz,
    livez: probed.livez,
    readyz: probed.readyz,
    apiserverURL: server,
    ...(ranges.clusterCIDR && { clusterCIDR: ranges.clusterCIDR }),
    ...(ranges.serviceCIDR && { serviceCIDR: ranges.serviceCIDR }),
    ...nodes,
  };
}

/** The condition Ready, by clusternet's rule; without a cluster it is False with a reason of its own. */
export function readyCondition({ child }: Pick<Observed, 'child'>): Omit<Condition, 'lastTransitionTime'> {
  if (!child) return { type: 'Ready', status: 'False', reason: 'NoCluster', message: 'This machine has no cluster yet.' };
  const { healthz, livez, readyz } = child.probed;
  if ((livez && readyz) || healthz) {
    return { type: 'Ready', status: 'True', reason: 'ManagedClusterReady', message: "The cluster's API server is ready." };
  }
  return { type: 'Ready', status: 'False', reason: 'ManagedClusterNotReady', message: "The cluster's API server is not ready." };
}

/** The conditions with this one in it: others stay, and the time of transition is kept while the status is the same. */
export function withCondition(present: readonly Condition[], wanted: Omit<Condition, 'lastTransitionTime'>, now: string): Condition[] {
  const before = present.find(({ type }) => type === wanted.type);
  const lastTransitionTime = before?.status === wanted.status ? before.lastTransitionTime : now;
  return [...present.filter(({ type }) => type !== wanted.type), { ...wanted, lastTransitionTime }];
}
