import { readdirSync, readFileSync } from 'node:fs';
import { Agent, get } from 'node:https';
import type { Lab } from '../lab/lab.ts';
import { pause, waitFor } from '../lab/wait.ts';

export type Answer = { status: number; text: string; took: number };

/** Callers of one child: a user of the parent and the path of the child's API server there, which must be known while the child is away too. */
export type Callers = {
  ask(path?: string): Promise<Answer>;
  /** Asks until the child answers and resolves with the milliseconds since `began` (of performance.now()). */
  usable(began: number, timeout?: number): Promise<number>;
  /** Asks all the time until `stop`; every answer that is not 200 is kept. */
  steady(): { stop(): Promise<{ count: number; failed: string[]; slowest: number }> };
  /** So many watches, which would last ten minutes, each on a connection of its own. Resolves when all have begun. */
  watches(count: number): Promise<Watches>;
};

export type Watches = {
  /** Resolves when all have ended, with how: 'broken' (the connection was reset), or what a complete answer ended with. Rejects when one lasts longer. */
  ended(within: number): Promise<string[]>;
  cancel(): void;
};

const WATCH = '/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=600';

export function callersOf(parent: Lab, user: string, proxied: string): Callers {
  const dev = parent.clientFor({ user });
  const ask = async (path = '/version'): Promise<Answer> => {
    const began = performance.now();
    const { status, text } = await dev.request('GET', proxied + path);
    return { status, text, took: performance.now() - began };
  };
  return {
    ask,
    async usable(began, timeout = 60_000) {
      const answered = async () => {
        const { status, text } = await ask();
        if (status !== 200) throw new Error(`${status} ${text}`);
        return true;
      };
      await waitFor(answered, { what: 'the child to be reached', timeout, interval: 20 });
      return performance.now() - began;
    },
    steady() {
      const stopping = new AbortController();
      const failed: string[] = [];
      let count = 0;
      let slowest = 0;
      const loop = async () => {
        while (!stopping.signal.aborted) {
          const { status, text, took } = await ask().catch((error: Error) => ({ status: 0, text: error.message, took: 0 }));
          count++;
          slowest = Math.max(slowest, took);
          if (status !== 200) failed.push(`${status} ${text.slice(0, 300)}`);
          await pause(5);
        }
      };
      const loops = Promise.all([loop(), loop(), loop(), loop()]);
      return {
        async stop() {
          stopping.abort();
          await loops;
          return { count, failed, slowest };
        },
      };
    },
    watches: (count) => begin(parent, user, proxied + WATCH, count),
  };
}

async function begin(parent: Lab, user: string, path: string, count: number): Promise<Watches> {
  const { certificate: cert, key } = parent.clientCertificate({ user });
  const agent = new Agent({ keepAlive: false, ca: parent.ca, cert, key });
  const cancelled = new AbortController();
  let begun = 0;
  const one = () =>
    new Promise<string>((resolve) => {
      const broken = () => resolve('broken');
      const outgoing = get(new URL(path, parent.apiServerURL), { agent, signal: cancelled.signal }, (incoming) => {
        begun++;
        let tail = '';
        incoming.on('data', (chunk: Buffer) => {
          tail = (tail + chunk.toString()).slice(-300);
        });
        incoming.once('end', () => resolve(`${incoming.statusCode} ${tail}`));
        incoming.once('error', broken);
      });
      outgoing.once('error', broken);
    });
  const all = Promise.all(Array.from({ length: count }, one));
  const cancel = () => {
    cancelled.abort();
    agent.destroy();
  };
  try {
    await waitFor(() => begun === count, { what: `${count} watches to begin` });
  } catch (error) {
    cancel();
    throw error;
  }
  return {
    async ended(within) {
      const over = new AbortController();
      const late = pause(within, over.signal).then(() => Promise.reject(new Error(`a watch still hangs after ${within} ms`)));
      late.catch(() => undefined);
      try {
        return await Promise.race([all, late]);
      } finally {
        over.abort();
        cancel();
      }
    },
    cancel,
  };
}

/** 503 or 504 and a Status, which is what callers of a child get that is away. */
export const isUnavailable = ({ status, text }: Answer): boolean =>
  [503, 504].includes(status) && (JSON.parse(text) as { kind: string }).kind === 'Status';

/** What a process holds (Linux). */
export type Usage = { descriptors: number; residentMiB: number };

export function usageOf(pid: number): Usage {
  const resident = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!resident) throw new Error(`process ${pid} has no VmRSS`);
  return { descriptors: readdirSync(`/proc/${pid}/fd`).length, residentMiB: Number(resident[1]) / 1024 };
}

/** Resolves when each process is back to what it held before, with a little more allowed. Rejects with the figures when that takes longer than 30 s. */
export async function waitForUsage(before: ReadonlyMap<string, { pid: number; usage: Usage }>, more: Usage): Promise<string> {
  const figures = () =>
    [...before].map(([name, { pid, usage }]) => {
      const now = usageOf(pid);
      const ok =
        now.descriptors <= usage.descriptors + more.descriptors && Math.round(now.residentMiB - usage.residentMiB) <= more.residentMiB;
      const mib = `${usage.residentMiB.toFixed(0)} -> ${now.residentMiB.toFixed(0)} MiB`;
      return { ok, text: `${name}: descriptors ${usage.descriptors} -> ${now.descriptors}, ${mib}` };
    });
  return await waitFor(
    () => {
      const all = figures();
      const text = all.map((one) => one.text).join('; ');
      if (!all.every(({ ok }) => ok)) throw new Error(text);
      return text;
    },
    { what: 'descriptors and memory to be back', timeout: 30_000, interval: 200 },
  );
}
