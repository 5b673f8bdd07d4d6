import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Limits } from '../../../src/tunnel/remotedialer/limits.ts';
import type { cleanUp } from '../../support/clean-up.ts';

/** Bytes, and open sessions. `heap` is what is in use after a collection. */
export type HubState = { rss: number; heap: number; sessions: number };

/** Starts hub-process.ts. */
export async function hubProcess(clean: ReturnType<typeof cleanUp>, limits: Partial<Limits> = {}) {
  const path = fileURLToPath(new URL('hub-process.ts', import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', path, JSON.stringify(limits)], { stdio: ['pipe', 'pipe', 'inherit'] });
  clean.after(() => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the process of the hub has ended');
    return value;
  };
  return {
    child,
    port: Number(await line()),
    async state(): Promise<HubState> {
      child.stdin.write('\n');
      return JSON.parse(await line()) as HubState;
    },
  };
}
