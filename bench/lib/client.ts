import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Target } from './http1.ts';

/** What the client is to do: so many connections, for a time or until so many answers. */
export type ClientOrder = { id: number; target: Target; concurrency: number; durationMs?: number; requests?: number };

/** Milliseconds; `perSecond` counts answers 200, `failures` everything else. */
export type ClientResult = {
  perSecond: number;
  megabytesPerSecond: number;
  bytesEach: number;
  count: number;
  p50: number;
  p99: number;
  max: number;
  failures: number;
  statuses: Record<string, number>;
  /** The first thing that went wrong below HTTP. */
  failure: string;
};

/** The one process that makes all loads of a benchmark, so that every row is measured with the same client. */
export type Client = {
  /** Resolves with what was measured, failures included. */
  try(order: Omit<ClientOrder, 'id'>): Promise<ClientResult>;
  /** As `try`; rejects when any answer was not 200. */
  run(order: Omit<ClientOrder, 'id'>): Promise<ClientResult>;
  stop(): void;
};

export function startClient(): Client {
  const child = fork(fileURLToPath(new URL('client-process.ts', import.meta.url)), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const waiting = new Map<number, { resolve: (result: ClientResult) => void; reject: (error: Error) => void }>();
  let next = 0;
  child.on('message', (message: { id: number; result?: ClientResult; error?: string }) => {
    const order = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.result) order?.resolve(message.result);
    else order?.reject(new Error(message.error ?? 'the client sent nothing'));
  });
  child.on('exit', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`the client ended with ${code}`));
    waiting.clear();
  });
  const attempt: Client['try'] = (order) =>
    new Promise((resolve, reject) => {
      const id = next++;
      waiting.set(id, { resolve, reject });
      child.send({ id, ...order });
    });
  return {
    try: attempt,
    async run(order) {
      const result = await attempt(order);
      if (result.failures > 0 || result.count === 0) {
        throw new Error(`GET ${order.target.url}: ${result.count} answers, ${JSON.stringify(result.statuses)} ${result.failure}`);
      }
      return result;
    },
    stop: () => {
      child.kill('SIGKILL');
    },
  };
}
