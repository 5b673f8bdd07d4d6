import { setTimeout as sleep } from 'node:timers/promises';
import { CLUSTERS_API, type ManagedCluster } from '../../kube/clusternet.ts';
import { isConflict, isNotFound } from '../../kube/errors.ts';
import { managedKey } from './directory.ts';
import type { LeadingRoom } from './room.ts';
import { type Heard, silence, wantedConditions } from './verdict.ts';

/** Agents come back within this time after a hub was replaced: their longest pause between attempts. */
const GRACE_MS = 30_000;
const TICK_MS = 1_000;
/** Writes in one turn: when all clusters fall silent at once, the API server is not flooded. */
const WRITES_AT_ONCE = 8;

type Entry = Heard & { lastObservedTime: string | undefined };

/** Says in the status of clusters what their agents cannot say: that nothing is heard of them. Runs until the signal of the room is aborted. */
export async function watchStatus(room: LeadingRoom, times: { graceMs?: number; tickMs?: number } = {}): Promise<void> {
  const { directory, connections, settings, signal } = room;
  const heard = new Map<string, Entry>();
  const limits = { unknownAfterMs: settings.unknownAfterMs, graceMs: times.graceMs ?? GRACE_MS };

  const observe = (key: string, cluster: ManagedCluster) => {
    const now = Date.now();
    const lastObservedTime = cluster.status?.lastObservedTime;
    const entry = heard.get(key);
    if (!entry) heard.set(key, { firstSeen: now, posted: undefined, lastObservedTime });
    else if (entry.lastObservedTime !== lastObservedTime) Object.assign(entry, { posted: now, lastObservedTime });
  };
  directory.clusters.onChange(({ name, object }) => {
    if (name !== undefined && object) observe(name, object);
    else if (name !== undefined) heard.delete(name);
  }, signal);

  async function turn(): Promise<void> {
    const writes: (() => Promise<void>)[] = [];
    const now = Date.now();
    for (const cluster of directory.clusters.values()) {
      const { namespace = '', name, deletionTimestamp } = cluster.metadata;
      const key = managedKey(namespace, name);
      observe(key, cluster);
      const entry = heard.get(key);
      // What no request has made is not ours to judge.
      const own = directory.find(cluster.spec.clusterId);
      if (!entry || deletionTimestamp || own?.namespace !== namespace || own.name !== name) continue;
      const silent = silence(cluster, connections.get(cluster.spec.clusterId), entry, limits, now);
      const conditions = wantedConditions(cluster, silent, own.childInsecure, new Date(now));
      if (!conditions) continue;
      const dead = silent && { healthz: false, livez: false, readyz: false };
      writes.push(() => write(cluster, { conditions, ...dead }));
    }
    for (let at = 0; at < writes.length && !signal.aborted && room.holds(); at += WRITES_AT_ONCE)
      await Promise.all(writes.slice(at, at + WRITES_AT_ONCE).map((one) => one()));
  }

  /** Over the version that was judged: an agent that has posted meanwhile is right. */
  async function write({ metadata }: ManagedCluster, status: object): Promise<void> {
    try {
      await room.client.request({
        method: 'PATCH',
        path: `${CLUSTERS_API}/namespaces/${metadata.namespace}/managedclusters/${metadata.name}/status`,
        contentType: 'application/merge-patch+json',
        body: { metadata: { resourceVersion: metadata.resourceVersion }, status },
        signal,
      });
    } catch (error) {
      if (!signal.aborted && !isConflict(error) && !isNotFound(error)) room.onError(error);
    }
  }

  while (!signal.aborted) {
    if (directory.synced() && !directory.absent()) await turn();
    await sleep(times.tickMs ?? TICK_MS, undefined, { signal }).catch(() => undefined);
  }
}
