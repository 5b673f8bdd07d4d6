/** Keys that want to be worked on. A key waits at most once, and is never worked on twice at the same time. */
export type WorkQueue = {
  add(key: string): void;
  /** Adds the key after so many milliseconds; an earlier time that was set for it stays. */
  addAfter(key: string, milliseconds: number): void;
  /** Works until the signal is aborted; resolves when the work under way has ended. */
  run(): Promise<void>;
};

export type WorkQueueOptions = {
  /** Resolves with when to look again (milliseconds; undefined: not by itself). When it rejects, the key is tried again with growing pauses. */
  work: (key: string, attempt: number) => Promise<number | undefined>;
  workers: number;
  signal: AbortSignal;
  onError: (key: string, error: unknown) => void;
  /** Pause after the first failure and the longest, in milliseconds. */
  backoffMs?: { first: number; longest: number };
};

/** setTimeout counts in 32 bits. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export function workQueue(options: WorkQueueOptions): WorkQueue {
  const { work, workers, signal, onError } = options;
  const { first, longest } = options.backoffMs ?? { first: 200, longest: 60_000 };
  const waiting = new Set<string>();
  const active = new Set<string>();
  const failures = new Map<string, number>();
  const timers = new Map<string, { at: number; timer: NodeJS.Timeout }>();
  let wake = Promise.withResolvers<void>();

  function add(key: string): void {
    const timed = timers.get(key);
    if (timed) clearTimeout(timed.timer);
    timers.delete(key);
    waiting.add(key);
    wake.resolve();
  }
  function addAfter(key: string, milliseconds: number): void {
    if (signal.aborted) return;
    const at = performance.now() + milliseconds;
    const before = timers.get(key);
    if (before && before.at <= at) return;
    if (before) clearTimeout(before.timer);
    timers.set(key, { at, timer: setTimeout(add, Math.min(milliseconds, LONGEST_TIMER_MS), key) });
  }

  async function one(key: string): Promise<void> {
    const attempt = (failures.get(key) ?? 0) + 1;
    try {
      const again = await work(key, attempt);
      failures.delete(key);
      if (again !== undefined) addAfter(key, again);
    } catch (error) {
      if (signal.aborted) return;
      failures.set(key, attempt);
      onError(key, error);
      addAfter(key, Math.min(longest, first * 2 ** Math.min(attempt - 1, 20)));
    }
  }

  return {
    add,
    addAfter,
    async run() {
      const running = new Set<Promise<void>>();
      const stop = () => wake.resolve();
      signal.addEventListener('abort', stop, { once: true });
      while (!signal.aborted) {
        wake = Promise.withResolvers();
        for (const key of waiting) {
          if (running.size >= workers) break;
          if (active.has(key)) continue;
          waiting.delete(key);
          active.add(key);
          const done = one(key).finally(() => {
            active.delete(key);
            running.delete(done);
            wake.resolve();
          });
          running.add(done);
        }
        await wake.promise;
      }
      for (const { timer } of timers.values()) clearTimeout(timer);
      timers.clear();
      await Promise.all(running);
    },
  };
}
