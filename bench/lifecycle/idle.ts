import { setTimeout as sleep } from 'node:timers/promises';
import type { MachineEnv } from '../../e2e/machine/env.ts';
import { residentMiB } from '../lib/memory.ts';
import { atMost, type Row } from '../lib/report.ts';
import { agentPid, processorMs } from './agent-process.ts';

/** Several rounds of the status reconciler (10 s) and of the heartbeat (15 s). */
const WATCH_MS = 60_000;

/** Resident memory and processor time of the agent that nobody asks anything. */
export async function idleAgent({ machine }: MachineEnv, how: string, limitMiB: number): Promise<Row[]> {
  const pid = await agentPid(machine);
  // What starting or an operation took has settled.
  await sleep(20_000);
  const before = processorMs(pid);
  await sleep(WATCH_MS);
  const percent = ((processorMs(pid) - before) / WATCH_MS) * 100;
  return [
    atMost(`agent's resident memory, idle, ${how}, MiB`, residentMiB(pid), limitMiB, 'VmRSS'),
    atMost(`processor of the idle agent, ${how}, % of a core`, percent, 1, `over ${WATCH_MS / 1000} s`),
  ];
}
