import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** A bounded load of GET requests. PEM for `ca`, `cert`, `key`; times in milliseconds. */
export type LoadOptions = {
  url: string;
  ca: string;
  cert: string;
  key: string;
  headers?: Record<string, string>;
  concurrency: number;
  durationMs: number;
};

/** Sends the load from a thread of its own and resolves with the rate of 200 answers and the count of all others. */
export async function load(options: LoadOptions): Promise<{ perSecond: number; failures: number }> {
  const worker = new Worker(new URL('./load-process.ts', import.meta.url), { workerData: options });
  const [result] = (await once(worker, 'message')) as [{ perSecond: number; failures: number }];
  await worker.terminate();
  return result;
}
