import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves when `condition` holds (anything but false or undefined); rejects after `withinMs` with what was waited for. */
export async function eventually<T>(
  what: string,
  condition: () => T | Promise<T>,
  withinMs = 5_000,
): Promise<Exclude<T, false | undefined>> {
  const end = performance.now() + withinMs;
  for (;;) {
    const value = await condition();
    if (value !== false && value !== undefined) return value as Exclude<T, false | undefined>;
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(10);
  }
}
