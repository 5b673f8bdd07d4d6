/** Resolves after so many milliseconds, or rejects with the reason of `signal` when that comes first. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', abort, { once: true });
  });
}

export type WaitOptions = {
  /** What is waited for, for the error message: 'node a to be Ready'. */
  what: string;
  /** Milliseconds, default 30,000. */
  timeout?: number;
  /** Milliseconds between two looks, default 50. */
  interval?: number;
  signal?: AbortSignal;
};

/**
 * Asks `condition` until it answers something truthy, and returns that. An error thrown by it counts as "not yet".
 * Rejects after the timeout with the last answer or error in the message.
 */
export async function waitFor<T>(condition: () => T | Promise<T>, options: WaitOptions): Promise<Exclude<T, false | null | undefined>> {
  const { what, timeout = 30_000, interval = 50, signal } = options;
  const deadline = performance.now() + timeout;
  let last = 'no answer yet';
  for (;;) {
    signal?.throwIfAborted();
    try {
      const answer = await condition();
      if (answer) return answer as Exclude<T, false | null | undefined>;
      last = `last answer: ${String(answer)}`;
    } catch (error) {
      last = `last error: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (performance.now() >= deadline) throw new Error(`waited ${timeout} ms for ${what}; ${last}`);
    await pause(interval, signal);
  }
}
