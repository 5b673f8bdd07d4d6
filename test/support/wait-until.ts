import { setTimeout as sleep } from 'node:timers/promises';

/** Waits for a condition; rejects with what was waited for when it does not come. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, what: string, timeoutMs = 10_000): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > until) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await sleep(10);
  }
}
