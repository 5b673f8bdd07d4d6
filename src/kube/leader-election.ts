import { setTimeout as sleep } from 'node:timers/promises';
import type { V1Lease } from '@kubernetes/client-node';
import type { KubeClient } from './client.ts';
import { getLease, microTime, putLease } from './lease.ts';

export type LeaderElectionOptions = {
  client: KubeClient;
  namespace: string;
  /** Name of the Lease. */
  name: string;
  /** Unique among replicas and restarts. */
  identity: string;
  /** Written into the Lease when it is taken. */
  annotations?: Record<string, string>;
  /** A Lease that nobody renewed for so long may be taken. Default 15 s. */
  leaseDurationMs?: number;
  /** A leader that could not renew for so long stops leading by itself; must be shorter than the lease. Default 10 s. */
  renewDeadlineMs?: number;
  /** Pause between attempts. Default 2 s. */
  retryPeriodMs?: number;
  signal: AbortSignal;
  /** Does the work; its signal is aborted when leadership is lost or the process ends. The Lease is released only after it has returned. */
  lead: (leadership: Leadership) => Promise<void>;
  onError?: (error: unknown) => void;
  /** Calls `released` whenever the Lease is seen to be free, until `until` is aborted: a waiting replica then tries at once, not at its next turn. */
  onReleased?: (released: () => void, until: AbortSignal) => void;
};

export type Leadership = {
  signal: AbortSignal;
  /** False as soon as a renewal is overdue by this process's monotonic clock, also when the process was frozen and no timer has fired yet. */
  holds: () => boolean;
};

/**
 * Leader election on a Lease, as client-go does it: times in the Lease are never compared with the local clock; what counts is how long the record
 * has not changed, by the monotonic clock. Resolves when the signal is aborted and the Lease is released.
 * It does not fence: who acts must also compare-and-swap the object it acts on.
 */
export async function electLeader(options: LeaderElectionOptions): Promise<void> {
  const { client, namespace, name, identity, signal } = options;
  const leaseDurationMs = options.leaseDurationMs ?? 15_000;
  const renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
  const retryPeriodMs = options.retryPeriodMs ?? 2_000;
  let observed: { record: string; at: number } | undefined;
  let lease: V1Lease | undefined;

  const record = (transitions: number, holder: string) => ({
    holderIdentity: holder,
    leaseDurationSeconds: Math.max(1, Math.round(leaseDurationMs / 1000)),
    acquireTime: microTime() as never,
    renewTime: microTime() as never,
    leaseTransitions: transitions,
  });

  async function tryAcquire(): Promise<boolean> {
    const current = await getLease(client, namespace, name, signal);
    if (!current) {
      lease = await putLease(
        client,
        namespace,
        { metadata: { name, annotations: options.annotations ?? {} }, spec: record(0, identity) },
        { signal },
      );
      return true;
    }
    const seen = `${current.spec?.holderIdentity} ${current.spec?.renewTime} ${current.metadata?.resourceVersion}`;
    if (observed?.record !== seen) observed = { record: seen, at: performance.now() };
    const held = Boolean(current.spec?.holderIdentity) && current.spec?.holderIdentity !== identity;
    const theirs = Math.max(leaseDurationMs, (current.spec?.leaseDurationSeconds ?? 0) * 1000);
    if (held && performance.now() - observed.at < theirs) return false;
    const metadata = { ...current.metadata, annotations: { ...current.metadata?.annotations, ...options.annotations } };
    lease = await putLease(client, namespace, { metadata, spec: record((current.spec?.leaseTransitions ?? 0) + 1, identity) }, { signal });
    return true;
  }

  /** Leads until a renewal has been impossible for the deadline, somebody else holds the Lease, or the process ends. */
  async function hold(asked: number): Promise<void> {
    const lost = new AbortController();
    const stop = AbortSignal.any([signal, lost.signal]);
    let renewed = asked;
    const leadership: Leadership = { signal: stop, holds: () => !stop.aborted && performance.now() - renewed < renewDeadlineMs };
    const work = options.lead(leadership).catch((error: unknown) => {
      options.onError?.(error);
      lost.abort();
    });
    while (!stop.aborted) {
      await sleep(retryPeriodMs, undefined, { signal: stop }).catch(() => undefined);
      if (stop.aborted || !lease) break;
      const began = performance.now();
      try {
        lease = await putLease(
          client,
          namespace,
          { ...lease, spec: { ...lease.spec, renewTime: microTime() as never } },
          { signal: stop, timeoutMs: renewDeadlineMs / 2 },
        );
        renewed = began;
      } catch (error) {
        if (stop.aborted) break;
        options.onError?.(error);
        // After a conflict or a lost answer our copy may be old: what counts is who stands in the Lease now.
        const current = await getLease(client, namespace, name, stop).catch(() => undefined);
        if (current && current.spec?.holderIdentity !== identity) lost.abort();
        else if (current) lease = current;
        if (performance.now() - renewed >= renewDeadlineMs) lost.abort();
      }
    }
    lost.abort();
    await work;
    await release();
  }

  async function release(): Promise<void> {
    const current = await getLease(client, namespace, name).catch(() => undefined);
    if (current?.spec?.holderIdentity !== identity) return;
    const spec = { ...current.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime() as never };
    await putLease(client, namespace, { ...current, spec }, { timeoutMs: 3_000 }).catch((error: unknown) => options.onError?.(error));
  }

  /** Waits for the next attempt. */
  async function turn(): Promise<void> {
    const early = new AbortController();
    const until = AbortSignal.any([signal, early.signal]);
    options.onReleased?.(() => early.abort(), until);
    await sleep(retryPeriodMs * (0.8 + 0.4 * Math.random()), undefined, { signal: until }).catch(() => undefined);
    early.abort();
  }

  while (!signal.aborted) {
    // The Lease runs from when it was asked for, not from when the answer came.
    const asked = performance.now();
    const acquired = await tryAcquire().catch((error: unknown) => {
      if (!signal.aborted) options.onError?.(error);
      return false;
    });
    if (acquired) await hold(asked);
    if (!signal.aborted) await turn();
  }
}
