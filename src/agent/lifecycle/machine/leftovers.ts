import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';

/** Set in the environment of the commands of an operation to its id. */
export const MARK = 'FAIRLEAD_OPERATION';

/**
 * Ends the commands that an agent started for the operation `id` before it was killed, with everything they started in turn: they would change the machine beside the
 * operation that is taken up again. Resolves with their number when none is left.
 */
export async function endLeftovers(id: string): Promise<number> {
  const seen = new Set<number>();
  for (;;) {
    const left = await marked(`${MARK}=${id}`);
    if (left.length === 0) return seen.size;
    for (const pid of left) {
      seen.add(pid);
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Has ended meanwhile.
      }
    }
    await wait(20);
  }
}

async function marked(mark: string): Promise<number[]> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 1 && pid !== process.pid);
  const found = await Promise.all(
    pids.map(async (pid) => {
      // A process of another user, or one that has ended (a zombie has no environment).
      const text = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '');
      return text.split('\0').includes(mark) ? [pid] : [];
    }),
  );
  return found.flat();
}
