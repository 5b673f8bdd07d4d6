import { setTimeout as wait } from 'node:timers/promises';
import { startedWith } from './processes.ts';

/** Set in the environment of the commands of an operation to its id. */
export const MARK = 'FAIRLEAD_OPERATION';

/**
 * Ends the commands that an agent started for the operation `id` before it was killed, with everything they started in turn: they would change the machine beside the
 * operation that is taken up again. Resolves with their number when none is left.
 */
export async function endLeftovers(id: string): Promise<number> {
  const seen = new Set<number>();
  for (;;) {
    const left = await startedWith(`${MARK}=${id}`);
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
