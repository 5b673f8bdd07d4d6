import { setTimeout as sleep } from 'node:timers/promises';

/** Pauses that grow (double, unless told otherwise) up to a limit, each a random part of it ("full jitter"), so that many agents do not come back at the same moment. */
export type Backoff = {
  /** Waits; ends early, without an error, when the signal is aborted. `atLeastMs` is what the other side asked for. */
  pause(signal: AbortSignal, atLeastMs?: number): Promise<void>;
  reset(): void;
};

export function backoff(firstMs: number, longestMs: number, random: () => number = Math.random, growth = 2): Backoff {
  let limit = firstMs;
  return {
    async pause(signal, atLeastMs = 0) {
      const ms = atLeastMs + limit * random();
      limit = Math.min(limit * growth, longestMs);
      await sleep(ms, undefined, { signal }).catch(() => undefined);
    },
    reset() {
      limit = firstMs;
    },
  };
}

/** `Retry-After` in milliseconds, at most five minutes; 0 when there is none that makes sense. */
export function retryAfterMs(header: string | undefined, now = Date.now()): number {
  if (!header) return 0;
  const ms = /^\d{1,9}$/.test(header.trim()) ? Number(header) * 1_000 : Date.parse(header) - now;
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), 300_000) : 0;
}
