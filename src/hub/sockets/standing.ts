import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ResourceInfo } from '../http/resource.ts';
import type { Admitted, StillAllowed } from './gate.ts';

/** Looks again and again whether those who hold something open still may. */
export type Standing = {
  /** Watches over something that is open; call the result when it has ended. `end` is called when the right is gone. */
  watch(admitted: Admitted, info: ResourceInfo, end: () => void): () => void;
  readonly size: number;
};

type Holder = { admitted: Admitted; info: ResourceInfo; end: () => void; since: number; question?: string };

/** Milliseconds between two looks at one caller; with the age that an answer may have it stays below ten seconds until a right that was taken away has effect. */
const LOOK_MS = 4_000;
/** For tunnels, which stay for weeks: as long as ten seconds allow. Clusters that are denied or deleted are cut by the watch, not by this. */
export const TUNNEL_LOOK_MS = 8_000;
const TICK_MS = 250;
const MOST_AT_ONCE = 16;
/** What is open for less is not worth a question. */
const YOUNG_MS = 2_000;

/**
 * One question for each caller, verb and cluster every `lookMs`, however many streams they hold. A question that cannot be answered changes nothing.
 */
export function standing(
  stillAllowed: StillAllowed,
  signal: AbortSignal,
  onError: (error: unknown) => void,
  lookMs: number = LOOK_MS,
): Standing {
  const holders = new Set<Holder>();

  const look = async (group: readonly Holder[]) => {
    const [first] = group;
    if (!first || (await stillAllowed(first.admitted, first.info))) return;
    for (const holder of group) {
      // Those that ended by themselves meanwhile are gone from the set.
      if (holders.delete(holder)) holder.end();
    }
  };
  const run = async () => {
    const running = new Set<Promise<void>>();
    /** When each question is due, in milliseconds of performance.now(). */
    let due = new Map<string, number>();
    while (!signal.aborted) {
      const old = performance.now() - YOUNG_MS;
      const open = [...holders].filter((holder) => holder.since < old);
      const before = due;
      due = new Map();
      for (const [question, group] of Map.groupBy(open, (holder) => (holder.question ??= questionOf(holder)))) {
        // Evenly over the time: the questions of a thousand tunnels that came together must not fall upon kube-apiserver together.
        const at = before.get(question) ?? old + Math.random() * (lookMs - YOUNG_MS) + YOUNG_MS;
        due.set(question, at);
        if (at > performance.now()) continue;
        if (running.size >= MOST_AT_ONCE) await Promise.race(running);
        if (signal.aborted) return;
        due.set(question, performance.now() + lookMs);
        const asked: Promise<void> = look(group)
          .catch(onError)
          .finally(() => running.delete(asked));
        running.add(asked);
      }
      await sleep(TICK_MS, undefined, { signal }).catch(() => undefined);
    }
  };
  run().catch(onError);

  return {
    get size() {
      return holders.size;
    },
    // Called for every request: what it costs is paid by all, so the question is put together only for what stays open.
    watch(admitted, info, end) {
      const holder = { admitted, info, end, since: performance.now() };
      holders.add(holder);
      return () => void holders.delete(holder);
    },
  };
}

/** A digest, because it is kept for each holder, and groups and extra may take up to a megabyte. */
function questionOf({ admitted: { user, via }, info }: Holder): string {
  const question = [user.name, user.uid, user.groups, user.extra, info.verb, info.subresource, info.name, via];
  return createHash('sha256').update(JSON.stringify(question)).digest('base64');
}
