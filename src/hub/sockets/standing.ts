import { setTimeout as sleep } from 'node:timers/promises';
import type { ResourceInfo } from '../http/resource.ts';
import type { Admitted, StillAllowed } from './gate.ts';

/** Looks again and again whether those who hold something open still may. */
export type Standing = {
  /** Watches over something that is open; call the result when it has ended. `end` is called when the right is gone. */
  watch(admitted: Admitted, info: ResourceInfo, end: () => void): () => void;
  readonly size: number;
};

type Holder = { admitted: Admitted; info: ResourceInfo; ends: Set<() => void>; since: number };

/** Between two looks; with the age that an answer may have it stays below ten seconds until a right that was taken away has effect. */
const LOOK_MS = 4_000;
/** What is open for less is not worth a question. */
const YOUNG_MS = 2_000;

/** One question for each caller, verb and cluster, however many streams they hold. A question that cannot be answered changes nothing. */
export function standing(stillAllowed: StillAllowed, signal: AbortSignal, onError: (error: unknown) => void): Standing {
  const holders = new Map<string, Holder>();

  const look = async (key: string, holder: Holder) => {
    if (await stillAllowed(holder.admitted, holder.info)) return;
    holders.delete(key);
    for (const end of [...holder.ends]) end();
  };
  const run = async () => {
    while (!signal.aborted) {
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
      const old = performance.now() - YOUNG_MS;
      const due = [...holders].filter(([, holder]) => holder.since < old);
      // A few at a time: 1,000 tunnels must not fall upon kube-apiserver together.
      for (let at = 0; at < due.length && !signal.aborted; at += 16)
        await Promise.all(due.slice(at, at + 16).map(([key, holder]) => look(key, holder).catch(onError)));
    }
  };
  run().catch(onError);

  return {
    get size() {
      return holders.size;
    },
    watch(admitted, info, end) {
      const { user } = admitted;
      const key = JSON.stringify([
        user.name,
        user.uid,
        user.groups,
        user.extra,
        info.verb,
        info.subresource,
        info.name,
        admitted.via === 'frontProxy',
      ]);
      const holder = holders.get(key) ?? { admitted, info, ends: new Set<() => void>(), since: performance.now() };
      holders.set(key, holder);
      holder.ends.add(end);
      return () => {
        holder.ends.delete(end);
        if (holder.ends.size === 0 && holders.get(key) === holder) holders.delete(key);
      };
    },
  };
}
