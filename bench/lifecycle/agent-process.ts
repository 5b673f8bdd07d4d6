import { readdirSync, readFileSync } from 'node:fs';
import type { Machine } from '../../e2e/lab/machine.ts';

/** The agent's process as this computer counts: its pid is another one than inside the machine. */
export async function agentPid(machine: Machine): Promise<number> {
  const inside = (await machine.run(['systemctl', 'show', '-p', 'MainPID', '--value', 'fairlead-agent'])).trim();
  for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const pids = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${entry}/status`, 'utf8'))?.[1]?.split(/\s+/) ?? [];
      if (pids.length > 1 && pids.at(-1) === inside && readFileSync(`/proc/${entry}/cmdline`, 'utf8').startsWith('/usr/bin/fairlead-agent'))
        return Number(entry);
    } catch {
      // A process that ended meanwhile.
    }
  }
  throw new Error(`the agent's process ${inside} of the machine is not found`);
}

/** Processor time of a process so far, in milliseconds, from /proc (clock ticks of 10 ms). */
export function processorMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
