import { readFile } from 'node:fs/promises';

/** A process that can be told from a later one with the same pid. `started`: ticks since boot, from /proc/PID/stat. */
export type ProcessId = { pid: number; started: string };

export async function identify(pid: number): Promise<ProcessId | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name in parentheses may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const started = fields[19];
  return started === undefined || fields[0] === 'Z' ? undefined : { pid, started };
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
