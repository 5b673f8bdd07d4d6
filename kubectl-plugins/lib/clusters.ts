import type { InfraCluster } from '../../src/hub/clusters/schema.ts';
import { KubeError } from '../../src/kube/errors.ts';
import { API, type Api } from './api.ts';
import { shortDuration } from './duration.ts';
import { UsageError } from './exit.ts';

const KINDS = ['cluster', 'clusters', 'infracluster', 'cluster.infraops.michael.io', 'clusters.infraops.michael.io'];

/** A cluster id: the uid of a Lease, or a machine id in the same form. */
export const isClusterID = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);

/** `edge-1` from that or from `cluster/edge-1`. Throws UsageError. */
export function clusterName(word: string): string {
  const slash = word.indexOf('/');
  const name = word.slice(slash + 1);
  if (slash >= 0 && !KINDS.includes(word.slice(0, slash).toLowerCase()))
    throw new UsageError(`"${word}" is not a cluster: give NAME or cluster/NAME`);
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name)) throw new UsageError(`"${word}" is not the name or id of a cluster`);
  return name;
}

/** The cluster of that name or id. Throws KubeError. */
export async function readCluster(api: Api, name: string, signal: AbortSignal): Promise<InfraCluster> {
  const path = `${API}/clusters/${encodeURIComponent(name)}`;
  try {
    return (await api.ask<InfraCluster>({ path, signal })).body;
  } catch (error) {
    if (!(error instanceof KubeError) || error.code !== 404 || !error.status.details?.name) throw error;
    const message = `${error.message}; see kubectl infra clusters, and kubectl infra requests for those that wait for approval`;
    throw new KubeError(404, { ...error.status, message });
  }
}

/** `up 12 ms · v1.36.3`, or `agent gone 4m`. */
export function clusterNote({ status }: InfraCluster, now: number): string {
  const since = status?.since ? ` ${shortDuration(now - Date.parse(status.since))}` : '';
  const up = `up${status?.roundTripMilliseconds === undefined ? '' : ` ${Math.round(status.roundTripMilliseconds)} ms`}`;
  return [status?.connected ? up : `agent gone${since}`, status?.version ?? ''].filter((part) => part !== '').join(' · ');
}
