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
    while (!signal.aborted) {
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
      const old = performance.now() - YOUNG_MS;
      const groups = [
        ...Map.groupBy(
          [...holders].filter((holder) => holder.since < old),
          questionOf,
        ).values(),
      ];
      // A few at a time: 1,000 tunnels must not fall upon kube-apiserver together.
      const left = groups.values();
      const worker = async () => {
        for (const group of left) if (!signal.aborted) await look(group).catch(onError);
      };
      await Promise.all(Array.from({ length: 16 }, worker));
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
