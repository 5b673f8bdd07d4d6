import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../kube/client.ts';
import { electLeader } from '../kube/leader-election.ts';
import { getLease } from '../kube/lease.ts';

/**
 * Runs `work` in one replica of the agent at a time. Unlike an ordinary leader this one goes on while the Lease cannot be renewed, because the API server
 * of the child is away: nobody else can take the Lease then, and the tunnel is what tells callers so. It stops when another holds the Lease.
 * Two at once do no harm: the hub gives the cluster's socket to the newest process. A replica that alone is cut off from the API server does not see who took over; `holds` is how
 * it learns that it must not come back.
 */
export async function runAsLeader(options: {
  client: () => KubeClient;
  namespace: string;
  lease: string;
  identity: string;
  signal: AbortSignal;
  /** Its signal is aborted when another replica has taken over, or the process ends. Must not throw. `holds` reads who has the Lease now: false also when it cannot be read. */
  work: (signal: AbortSignal, holds: (signal: AbortSignal) => Promise<boolean>) => Promise<void>;
  onError: (error: unknown) => void;
  timing?: { leaseDurationMs: number; renewDeadlineMs: number; retryPeriodMs: number };
}): Promise<void> {
  const { client, namespace, lease, identity, signal, onError } = options;
  let running: { stop: AbortController; done: Promise<void> } | undefined;
  const watchMs = options.timing?.retryPeriodMs ?? 2_000;

  /** While we do not hold the Lease: has another taken it? */
  async function watchOthers(until: AbortSignal): Promise<void> {
    while (!until.aborted && running) {
      const holder = await getLease(client(), namespace, lease, until).then(
        (found) => found?.spec?.holderIdentity ?? '',
        () => '',
      );
      if (holder !== '' && holder !== identity && !until.aborted) {
        const ending = running;
        running = undefined;
        ending.stop.abort();
        await ending.done;
        return;
      }
      await sleep(watchMs, undefined, { signal: until }).catch(() => undefined);
    }
  }

  async function holds(until: AbortSignal): Promise<boolean> {
    try {
      const found = await getLease(client(), namespace, lease, until);
      return found?.spec?.holderIdentity === identity;
    } catch {
      return false;
    }
  }

  let watching: { stop: AbortController; done: Promise<void> } | undefined;
  // A new kubeconfig brings a new client.
  const latest: KubeClient = {
    request: (request) => client().request(request),
    stream: (request) => client().stream(request),
    close: () => undefined,
    get server() {
      return client().server;
    },
  };
  await electLeader({
    client: latest,
    namespace,
    name: lease,
    identity,
    ...options.timing,
    signal,
    async lead({ signal: leading }) {
      watching?.stop.abort();
      await watching?.done;
      if (!running) {
        const stop = new AbortController();
        running = { stop, done: options.work(AbortSignal.any([stop.signal, signal]), holds).catch(onError) };
      }
      await new Promise<void>((resolve) => {
        if (leading.aborted) resolve();
        else leading.addEventListener('abort', () => resolve(), { once: true });
      });
      const stop = new AbortController();
      watching = { stop, done: watchOthers(AbortSignal.any([stop.signal, signal])).catch(onError) };
    },
    onError,
  });
  // The Lease is free again: another replica opens its tunnels while ours let their last requests end.
  watching?.stop.abort();
  await Promise.all([watching?.done, running?.done]);
}
