/** Runs `work` on every item, at most `limit` at a time; rejects with the first error after the running ones have ended. */
export async function eachOf<T>(items: Iterable<T>, limit: number, work: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]();
  const errors: unknown[] = [];
  async function worker(): Promise<void> {
    while (errors.length === 0) {
      const next = iterator.next();
      if (next.done) return;
      try {
        await work(next.value);
      } catch (error) {
        errors.push(error);
      }
    }
  }
  await Promise.all(Array.from({ length: limit }, worker));
  if (errors.length > 0) throw errors[0];
}
