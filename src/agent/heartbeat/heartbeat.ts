import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../../kube/client.ts';
import { CLUSTERS_API, type ManagedCluster } from '../../kube/clusternet.ts';
import { isConflict, isNotFound } from '../../kube/errors.ts';
import { VERSION } from '../../kube/version.ts';
import { type WatchCache, watchCache } from '../../kube/watch-cache.ts';
import { backoff } from '../backoff.ts';
import type { Child } from '../child/child.ts';
import { isRefused } from '../registration/requests.ts';
import type { Credential } from '../registration/store.ts';
import { lookUpRanges, type Ranges } from './cidrs.ts';
import { type NodeSummary, nodeSummary, type RawNode, sumNodes } from './nodes.ts';
import { type Probed, probe } from './probes.ts';
import { clusterStatus, type Observed, readyCondition, withCondition } from './status.ts';

export type HeartbeatOptions = {
  child: Child;
  credential: () => Credential | undefined;
  onCredential: (listener: () => void, signal: AbortSignal) => void;
  refused: (credential: Credential) => void;
  /** A client of the parent with the credential of the moment. */
  parent: KubeClient;
  /** The status is written at least so often while there is a tunnel. */
  heartbeatMs: number;
  /** Whether there is a tunnel. */
  connected: () => boolean;
  /** Given by flags; '' is looked up. */
  ranges: Ranges;
  signal: AbortSignal;
  onError: (error: unknown) => void;
  timing?: Partial<HeartbeatTiming>;
};

export type HeartbeatTiming = {
  /** Between two looks at the health of the child. */
  probeMs: number;
  /** Between two writes, when nodes come and go. */
  gapMs: number;
  retryMs: number;
  /** Without a tunnel for so long, the status is all that the parent hears of this cluster, and is written at least every `aloneMs`. */
  aloneAfterMs: number;
  aloneMs: number;
};

/**
 * The hub takes what is posted within 5 s of the end of a tunnel for late, gives a cluster up after 15 s without either, and one that posts after three times what it says of itself
 * (src/hub/clusters/verdict.ts): an agent that dies without a tunnel is missed after 24 s.
 */
export const HEARTBEAT_TIMING: HeartbeatTiming = { probeMs: 20_000, gapMs: 2_000, retryMs: 1_000, aloneAfterMs: 6_000, aloneMs: 8_000 };
/** Ranges do not change; what could not be read may be readable later. */
const RANGES_MS = 600_000;
const LONGEST_RETRY_MS = 30_000;

export type Heartbeat = {
  /** Writes the status soon although nothing changed: the tunnel is back, and the hub may have given the cluster up. */
  beat(): void;
  /** Looks again whether there is something to write: the last tunnel has ended. */
  look(): void;
  /** When the status was last written, in milliseconds of performance.now(); undefined: never. */
  written(): number | undefined;
};

/** Writes the status of the ManagedCluster when it changes and at least every `heartbeatMs`, more often without a tunnel, until the signal is aborted. */
export function keepReporting(options: HeartbeatOptions): Heartbeat {
  const { child, signal, onError } = options;
  const timing = { ...HEARTBEAT_TIMING, ...options.timing };
  let written: number | undefined;
  let writtenKey = '';
  let forced = false;
  let wake = Promise.withResolvers<void>();
  let woken = false;
  const poke = () => {
    woken = true;
    wake.resolve();
    wake = Promise.withResolvers<void>();
  };

  let watched: { client: KubeClient; nodes: WatchCache<NodeSummary>; stop: AbortController; ranges: Ranges; rangesAt: number } | undefined;
  /** The copy of the nodes belongs to one client: a new kubeconfig may lead to another cluster. */
  function watchedNodes(client: KubeClient) {
    if (watched?.client === client) return watched;
    watched?.stop.abort();
    const stop = new AbortController();
    const nodes = watchCache<RawNode, NodeSummary>({
      client,
      path: '/api/v1/nodes',
      transform: nodeSummary,
      signal: AbortSignal.any([signal, stop.signal]),
      onError,
    });
    nodes.onChange(poke, stop.signal);
    watched = { client, nodes, stop, ranges: { clusterCIDR: '', serviceCIDR: '' }, rangesAt: Number.NEGATIVE_INFINITY };
    return watched;
  }

  let aloneSince: number | undefined;
  /** How often the status is written at the moment. The first seconds without a tunnel are no reason: all agents of a hub that is restarted are without. */
  function frequencyMs(): number {
    if (options.connected()) {
      aloneSince = undefined;
      return options.heartbeatMs;
    }
    aloneSince ??= performance.now();
    const alone = performance.now() - aloneSince >= timing.aloneAfterMs;
    return alone ? Math.min(timing.aloneMs, options.heartbeatMs) : options.heartbeatMs;
  }

  let probed: { client: KubeClient; result: Probed; at: number } | undefined;
  async function observe(heartbeatMs: number): Promise<Observed> {
    const common = { agentVersion: `v${VERSION}`, platform: `${process.platform}/${ARCHITECTURES[process.arch] ?? process.arch}` };
    const [client, connection] = [child.client(), child.connection()];
    if (!client || !connection) {
      watched?.stop.abort();
      watched = undefined;
      return { ...common, heartbeatMs, child: undefined };
    }
    const own = watchedNodes(client);
    if (probed?.client !== client || performance.now() - probed.at >= timing.probeMs) {
      probed = { client, result: await probe(client, signal), at: performance.now() };
    }
    const { clusterCIDR, serviceCIDR } = options.ranges;
    if (!(clusterCIDR && serviceCIDR) && performance.now() - own.rangesAt >= RANGES_MS) {
      own.rangesAt = performance.now();
      own.ranges = await lookUpRanges(client, signal);
    }
    return {
      ...common,
      heartbeatMs,
      child: {
        server: connection.server,
        probed: probed.result,
        ranges: { clusterCIDR: clusterCIDR || own.ranges.clusterCIDR, serviceCIDR: serviceCIDR || own.ranges.serviceCIDR },
        nodes: own.nodes.synced() ? sumNodes(own.nodes.values()) : {},
      },
    };
  }

  async function write(credential: Credential, observed: Observed): Promise<void> {
    const path = `${CLUSTERS_API}/namespaces/${credential.namespace}/managedclusters/${credential.managedCluster}`;
    for (let attempt = 1; ; attempt++) {
      const { metadata, status } = await options.parent.request<ManagedCluster>({ path, signal });
      const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
      // Conditions are a list, which a merge patch replaces: with the version, so that none of another writer is lost.
      const body = {
        metadata: { resourceVersion: metadata.resourceVersion },
        status: {
          ...clusterStatus(observed),
          lastObservedTime: now,
          conditions: withCondition(status?.conditions ?? [], readyCondition(observed), now),
        },
      };
      const contentType = 'application/merge-patch+json';
      try {
        await options.parent.request({ method: 'PATCH', path: `${path}/status`, contentType, body, signal });
        return;
      } catch (error) {
        if (!isConflict(error) || attempt === 5) throw error;
      }
    }
  }

  async function rest(ms: number): Promise<void> {
    if (woken) return;
    const over = new AbortController();
    const timer = sleep(Math.max(ms, 0), undefined, { signal: AbortSignal.any([signal, over.signal]) }).catch(() => undefined);
    await Promise.race([timer, wake.promise]);
    over.abort();
  }

  async function run(): Promise<void> {
    const retry = backoff(timing.retryMs, LONGEST_RETRY_MS);
    while (!signal.aborted) {
      woken = false;
      const credential = options.credential();
      if (!credential) {
        await rest(timing.probeMs);
        continue;
      }
      const heartbeatMs = frequencyMs();
      const observed = await observe(heartbeatMs);
      const key = JSON.stringify([credential.managedCluster, clusterStatus(observed), readyCondition(observed)]);
      const due = written === undefined || performance.now() - written >= heartbeatMs;
      if (key !== writtenKey || forced || due) {
        const was = forced;
        forced = false;
        try {
          await write(credential, observed);
          written = performance.now();
          writtenKey = key;
          retry.reset();
        } catch (error) {
          if (signal.aborted) return;
          forced ||= was;
          onError(error);
          if (isRefused(error) || isNotFound(error)) options.refused(credential);
          await retry.pause(signal, timing.retryMs / 2);
          continue;
        }
        // Nodes that come and go by the hundred make one write, not hundreds.
        await sleep(Math.min(timing.gapMs, heartbeatMs), undefined, { signal }).catch(() => undefined);
      }
      const mayBecomeAlone = aloneSince === undefined ? Number.POSITIVE_INFINITY : timing.aloneAfterMs;
      await rest(Math.min(timing.probeMs, mayBecomeAlone, heartbeatMs - (performance.now() - (written ?? 0))));
    }
  }

  options.onCredential(poke, signal);
  signal.addEventListener('abort', poke, { once: true });
  run().catch(onError);
  return {
    beat() {
      forced = true;
      poke();
    },
    look: poke,
    written: () => written,
  };
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };
