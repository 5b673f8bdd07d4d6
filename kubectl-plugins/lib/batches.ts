/** `3` or `25%` of `total`, at least 1. */
export function atOnce(maxUnavailable: string, total: number): number {
  const percent = /^(\d+)%$/.exec(maxUnavailable)?.[1];
  return Math.max(1, percent === undefined ? Number(maxUnavailable) : Math.floor((total * Number(percent)) / 100));
}

/**
 * Runs `task` for each item, at most `width` at the same time. After the first result that is not `ok`, nothing new is begun, while what runs
 * is waited for. Returns the results in order of the items, and the items that were not begun. `stopped` ends it early in the same way.
 */
export async function runBatches<T, R extends { ok: boolean }>(
  items: readonly T[],
  width: number,
  task: (item: T) => Promise<R>,
  stopped: () => boolean,
): Promise<{ results: R[]; notBegun: T[] }> {
  const results: (R | undefined)[] = items.map(() => undefined);
  let next = 0;
  let failed = false;
  const worker = async () => {
    while (next < items.length && !failed && !stopped()) {
      const at = next++;
      const result = await task(items[at] as T);
      results[at] = result;
      if (!result.ok) failed = true;
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
  return { results: results.filter((result) => result !== undefined), notBegun: items.slice(next) };
}
