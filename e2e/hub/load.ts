import { setImmediate } from 'node:timers/promises';

/** What became of the requests of a load. */
export type LoadResult = {
  total: number;
  /** One text for each request that failed. */
  failures: string[];
  /** Milliseconds that each took, in the order of their ends. */
  latencies: number[];
};

export type Load = {
  /** So far. */
  readonly total: number;
  /** Lets requests in flight end and resolves with what became of all of them. */
  stop(): Promise<LoadResult>;
};

/**
 * Calls `work` again and again, `concurrency` times at once, until `stop`. It resolves with text when the request failed, with undefined when it went well;
 * a rejection is a failure too.
 */
export function startLoad(concurrency: number, work: (worker: number) => Promise<string | undefined>): Load {
  const result: LoadResult = { total: 0, failures: [], latencies: [] };
  let going = true;
  async function run(worker: number): Promise<void> {
    while (going) {
      const began = performance.now();
      const failure = await work(worker).catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
      result.total++;
      result.latencies.push(performance.now() - began);
      if (failure !== undefined) result.failures.push(`${new Date().toISOString()} ${failure}`);
      // A request that fails at once must not keep everything else from running.
      await setImmediate();
    }
  }
  const workers = Array.from({ length: concurrency }, (_, worker) => run(worker));
  return {
    get total() {
      return result.total;
    },
    async stop() {
      going = false;
      await Promise.all(workers);
      return result;
    },
  };
}

/** The value below which a fraction (0 to 1) of `values` lies; NaN without values. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN;
}
