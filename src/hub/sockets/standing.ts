import { setTimeout as sleep } from 'node:timers/promises';
import type { ResourceInfo } from '../http/resource.ts';
import type { Admitted, StillAllowed } from './gate.ts';

/** Looks again and again whether those who hold something open still may. */
export type Standing = {
  /** Watches over something that is open; call the result when it has ended. `end` is called when the right is gone. */
  watch(admitted: Admitted, info: ResourceInfo, end: () => void): () => void;
  readonly size: number;
};

type Holder = { admitted: Admitted; info: ResourceInfo; end: () => void; since: number };

/** Between two looks; with the age that an answer may have it stays below ten seconds until a right that was taken away has effect. */
const LOOK_MS = 4_000;
const MOST_AT_ONCE = 16;
/** What is open for less is not worth a question. */
const YOUNG_MS = 2_000;

/** One question for each caller, verb and cluster, however many streams they hold. A question that cannot be answered changes nothing. */
export function standing(stillAllowed: StillAllowed, signal: AbortSignal, onError: (error: unknown) => void): Standing {
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
    while (!signal.aborted) {
      const began = performance.now();
      const until = (due: number) => sleep(Math.max(due - performance.now(), 0), undefined, { signal }).catch(() => undefined);
      const old = began - YOUNG_MS;
      const open = [...holders].filter((holder) => holder.since < old);
      const groups = [...Map.groupBy(open, questionOf).values()];
      // Evenly over the time until the next look: the questions of a thousand tunnels must not fall upon kube-apiserver together.
      for (const [at, group] of groups.entries()) {
        await until(began + (LOOK_MS * at) / groups.length);
        if (signal.aborted) return;
        if (running.size >= MOST_AT_ONCE) await Promise.race(running);
        const asked: Promise<void> = look(group)
          .catch(onError)
          .finally(() => running.delete(asked));
        running.add(asked);
      }
      await until(began + LOOK_MS);
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

function questionOf({ admitted: { user, via }, info }: Holder): string {
  return JSON.stringify([user.name, user.uid, user.groups, user.extra, info.verb, info.subresource, info.name, via]);
}
