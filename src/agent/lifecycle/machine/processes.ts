import { readdir, readFile } from 'node:fs/promises';

/** A process that can be told from a later one with the same pid. `started`: ticks since boot, from /proc/PID/stat. */
export type ProcessId = { pid: number; started: string };

export async function identify(pid: number): Promise<ProcessId | undefined> {
  const fields = await statOf(pid);
  const started = fields[19];
  return started === undefined || fields[0] === 'Z' ? undefined : { pid, started };
}

/** Fields of /proc/PID/stat from the third one on: state, parent, group, session and so on. */
async function statOf(pid: number): Promise<string[]> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name in parentheses may hold anything.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** Pids of processes that were started with `NAME=value` in their environment; never our own, nor that of the machine's first process. */
export async function startedWith(assignment: string): Promise<number[]> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 1 && pid !== process.pid);
  const found = await Promise.all(
    pids.map(async (pid) => {
      // A process of another user, or one that has ended (a zombie has no environment).
      const text = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '');
      return text.split('\0').includes(assignment) ? [pid] : [];
    }),
  );
  return found.flat();
}

/** The process that was started with `NAME=value` in its environment as the first of a session; what it has started in turn is not meant. */
export async function leaderStartedWith(assignment: string): Promise<ProcessId | undefined> {
  for (const pid of await startedWith(assignment)) {
    const [, , , session] = await statOf(pid);
    const found = session === String(pid) ? await identify(pid) : undefined;
    if (found) return found;
  }
  return undefined;
}

export async function isAlive(process: ProcessId): Promise<boolean> {
  return (await identify(process.pid))?.started === process.started;
}

/** No error when there is none. `pid` below zero is a group. */
export function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
