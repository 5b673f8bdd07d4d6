import { setTimeout as sleep } from 'node:timers/promises';
import { type AgentTunnel, acceptTunnel, type StreamHandler } from '../../tunnel/session.ts';
import { type Backoff, backoff } from '../backoff.ts';
import type { Parent } from '../parent/parent.ts';
import type { Credential } from '../registration/store.ts';
import { type Dialled, dial } from './dial.ts';

export type KeeperOptions = {
  parent: Parent;
  clusterId: string;
  instance: string;
  version: string;
  /** How many tunnels to keep, each to another replica of the hub. */
  tunnels: number;
  /** Undefined: not registered at the moment; then nothing is dialled, and open tunnels end. */
  credential: () => Credential | undefined;
  /** Calls `listener` when the credential changes. */
  onCredential: (listener: () => void, signal: AbortSignal) => void;
  /** The parent refused the credential (401, 403 or 404). */
  refused: (credential: Credential) => void;
  serve: StreamHandler;
  /**
   * After another process took the cluster over: whether it is ours again, asked before each attempt until it says so. Left out, as on a machine without a Lease, it is tried after
   * supersededMs in any case. Must not throw.
   */
  mayReturn?: (signal: AbortSignal) => Promise<boolean>;
  signal: AbortSignal;
  /** A tunnel came, went, or could not be opened. */
  onEvent: (event: TunnelEvent) => void;
  onError: (error: unknown) => void;
  timing?: Partial<KeeperTiming>;
};

export type TunnelEvent =
  | { kind: 'up'; replica: string; tunnels: number }
  /** `why` is one of few words, for metrics; `detail` is for the log. */
  | { kind: 'down'; replica: string; tunnels: number; why: EndReason; detail: string }
  | { kind: 'failed'; detail: string };

export type EndReason = 'lost' | 'draining' | 'renewed' | 'superseded' | 'unregistered' | 'stopping';

export type KeeperTiming = {
  retryMs: number;
  longestRetryMs: number;
  /** Fewer replicas than tunnels: when to look for another one, in the end; sooner after a change, because a replica that was restarted comes back. */
  lookMs: number;
  /** A tunnel that ended sooner has not worked: the next attempt waits as after a failure. */
  stableMs: number;
  /** Another process has taken this cluster over: when to try to have it back, or to ask whether one may. */
  supersededMs: number;
};

const TIMING: KeeperTiming = { retryMs: 200, longestRetryMs: 30_000, lookMs: 30_000, stableMs: 5_000, supersededMs: 30_000 };
/** Gentler than doubling: a hub that is restarted is back after some seconds, and should not be found after many. */
const GROWTH = 1.5;
/** Balancers are not even: so many attempts in a row may hit a replica that we have before the search takes its long pause. */
const DUPLICATES = 8;
const SUPERSEDED = /supersed|taken over|another (instance|agent)/i;

export type Keeper = {
  /** Open tunnels, those that are ending not counted. */
  count(): number;
  /** Of the fastest tunnel; undefined before the first ping came back. */
  roundTripMs(): number | undefined;
  /**
   * Tells the hub to send nothing more, and lets what is under way end. Resolves when all of it has, or after `withinMs`, when the rest is cut.
   */
  stop(withinMs: number): Promise<void>;
};

type Held = {
  tunnel: AgentTunnel;
  replica: string;
  credential: Credential;
  since: number;
  cut: () => void;
  /** Set when it is to end, and counts no more. */
  why: EndReason | undefined;
  /** The hub was told to send nothing more. */
  left: boolean;
};

/** Keeps the tunnels open: dials again when one ends, opens the replacement first when the hub drains a replica or the credential was renewed. */
export function keepTunnels(options: KeeperOptions): Keeper {
  const timing = { ...TIMING, ...options.timing };
  const stopped = new AbortController();
  const signal = AbortSignal.any([options.signal, stopped.signal]);
  /** All that are not closed; those with a reason are on their way out and count no more. */
  const held = new Set<Held>();
  let replicas: number | undefined;
  let pauseUntil = 0;
  let superseded = false;
  let duplicates = 0;
  let look = timing.lookMs / 8;
  let wake = Promise.withResolvers<void>();
  let hurry = new AbortController();
  let unstable = false;
  const retry = backoff(timing.retryMs, timing.longestRetryMs, Math.random, GROWTH);
  /** While looking for a replica that we have no tunnel to. */
  const search = backoff(timing.retryMs, timing.retryMs * 8);

  const counted = () => [...held].filter(({ why }) => why === undefined);
  /** Old ones with an old credential are replaced: they do not keep the new one away from their replica. */
  const current = () => counted().filter(({ credential }) => credential.token === options.credential()?.token);
  function changed(): void {
    look = timing.lookMs / 8;
    wake.resolve();
    wake = Promise.withResolvers<void>();
  }

  /** Ends a pause: what it waited for may be over. */
  function dialNow(): void {
    retry.reset();
    hurry.abort();
    hurry = new AbortController();
  }
  const pause = (atLeastMs = 0, pauses: Backoff = retry) => pauses.pause(AbortSignal.any([signal, hurry.signal]), atLeastMs);

  /** A tunnel that had worked is replaced at once; one that had not is no proof that the next will. */
  function lost({ since }: Held): void {
    if (performance.now() - since >= timing.stableMs) dialNow();
    else unstable = true;
  }

  function stepBack(): void {
    superseded = true;
    pauseUntil = performance.now() + timing.supersededMs;
  }

  /**
   * The hub takes the newest for the right one: a replica that came back because its time was up, not because the Lease is its own, would take the cluster from the one that has
   * replaced it, and the two would go on doing that to each other.
   */
  async function comeBack(): Promise<void> {
    const before = pauseUntil;
    const may = (await options.mayReturn?.(signal)) ?? true;
    // Taken over once more while it was asked: the answer may be older.
    if (pauseUntil !== before) return;
    if (may) superseded = false;
    else stepBack();
  }

  function hold(dialled: Dialled & { kind: 'attached' }, credential: Credential): void {
    const { socket, head, replica } = dialled;
    const tunnel = acceptTunnel(socket, head, { serve: options.serve, onError: options.onError });
    const entry: Held = { tunnel, replica, credential, since: performance.now(), cut: () => socket.destroy(), why: undefined, left: false };
    held.add(entry);
    options.onEvent({ kind: 'up', replica, tunnels: counted().length });
    tunnel.onDraining(() => {
      if (entry.why === undefined) lost(entry);
      end(entry, 'draining');
    });
    tunnel.closed
      .then((detail) => {
        held.delete(entry);
        const takenOver = SUPERSEDED.test(detail);
        if (takenOver) stepBack();
        else if (entry.why === undefined) lost(entry);
        const why = takenOver ? 'superseded' : (entry.why ?? 'lost');
        options.onEvent({ kind: 'down', replica, tunnels: counted().length, why, detail });
        changed();
      })
      .catch(options.onError);
    // One replaced for its old credential: the newest of its replica, or any when there are more than wanted.
    const old = counted().filter((other) => other !== entry && other.credential.token !== credential.token);
    const surplus = old.find((other) => other.replica === replica) ?? (counted().length > options.tunnels ? old[0] : undefined);
    if (surplus) end(surplus, 'renewed');
    leaveDraining();
    changed();
  }

  function end(entry: Held, why: EndReason): void {
    if (entry.why !== undefined) return;
    entry.why = why;
    if (why === 'draining') leaveDraining();
    else leave(entry);
    changed();
  }

  function leave(entry: Held): void {
    if (entry.left) return;
    entry.left = true;
    entry.tunnel.leave();
  }

  /** Tunnels to replicas that stop are held until there is another one: the hub cuts them when it must. */
  function leaveDraining(): void {
    if (counted().length === 0) return;
    for (const entry of held) if (entry.why === 'draining') leave(entry);
  }

  async function attempt(credential: Credential): Promise<void> {
    const have = current().flatMap(({ replica }) => replica || []);
    let dialled: Dialled;
    try {
      const { parent, clusterId, instance, version } = options;
      dialled = await dial({ parent, clusterId, token: credential.token, instance, version, have, signal });
    } catch (error) {
      if (signal.aborted) return;
      options.onEvent({ kind: 'failed', detail: error instanceof Error ? error.message : String(error) });
      await pause();
      return;
    }
    if (dialled.kind === 'attached') {
      if (signal.aborted) dialled.socket.destroy();
      else if (options.credential()?.token !== credential.token) dialled.socket.destroy();
      else {
        replicas = dialled.replicas ?? replicas;
        search.reset();
        hold(dialled, credential);
      }
      return;
    }
    if (dialled.kind === 'duplicate') {
      replicas = dialled.replicas ?? replicas;
      duplicates++;
      const all = replicas !== undefined && current().length >= replicas;
      if (all || duplicates >= DUPLICATES) {
        duplicates = 0;
        const ms = look * (0.75 + Math.random() / 2);
        look = Math.min(look * 2, timing.lookMs);
        await rest(ms);
      } else await pause(dialled.retryAfterMs, search);
      return;
    }
    const { code, message, retryAfterMs } = dialled;
    options.onEvent({ kind: 'failed', detail: `the parent answered ${code}: ${message}` });
    if (code === 401 || code === 403 || code === 404) options.refused(credential);
    await pause(retryAfterMs);
  }

  /** Waits so long, or until a tunnel comes or goes or the credential changes. */
  async function rest(ms: number): Promise<void> {
    const over = new AbortController();
    const timer = sleep(ms, undefined, { signal: AbortSignal.any([signal, over.signal]) }).catch(() => undefined);
    await Promise.race([timer, wake.promise]);
    over.abort();
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      if (unstable) {
        unstable = false;
        await pause();
      }
      const credential = options.credential();
      if (!credential) {
        for (const entry of counted()) end(entry, 'unregistered');
        await rest(timing.lookMs);
        continue;
      }
      const stepsBackFor = pauseUntil - performance.now();
      if (stepsBackFor > 0) await rest(stepsBackFor);
      else if (superseded) await comeBack();
      // A wish for more tunnels than the hub has replicas is looked at again from time to time.
      else if (current().length >= options.tunnels) await rest(timing.lookMs);
      else await attempt(credential);
    }
  }

  const onCredential = () => {
    dialNow();
    changed();
  };
  options.onCredential(onCredential, signal);
  // An abort of the signal wakes whoever rests.
  signal.addEventListener('abort', changed, { once: true });
  const running = run().catch(options.onError);
  return {
    count: () => counted().length,
    roundTripMs() {
      const times = counted().flatMap(({ tunnel }) => tunnel.roundTripMs() ?? []);
      return times.length === 0 ? undefined : Math.min(...times);
    },
    async stop(withinMs) {
      stopped.abort();
      await running;
      for (const entry of counted()) end(entry, 'stopping');
      for (const entry of held) leave(entry);
      const all = Promise.all([...held].map(({ tunnel }) => tunnel.closed));
      const over = new AbortController();
      await Promise.race([all, sleep(withinMs, undefined, { signal: over.signal }).catch(() => undefined)]);
      over.abort();
      for (const entry of held) entry.cut();
      await all;
    },
  };
}
