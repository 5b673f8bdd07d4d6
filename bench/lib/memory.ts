import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Resident memory of a process in MiB (Linux). */
export function residentMiB(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!match) throw new Error(`process ${pid} has no VmRSS`);
  return Number(match[1]) / 1024;
}

/** Resident memory once it has not fallen by more than 1 MiB for `quietMs`, at most `limitMs` later. */
export async function settledMiB(pid: number, quietMs = 10_000, limitMs = 60_000): Promise<number> {
  const began = performance.now();
  let lowest = residentMiB(pid);
  let since = began;
  while (performance.now() - since < quietMs && performance.now() - began < limitMs) {
    await sleep(500);
    const now = residentMiB(pid);
    if (now < lowest - 1) {
      lowest = now;
      since = performance.now();
    }
  }
  return residentMiB(pid);
}

/** The most that a process has had resident so far, in MiB (Linux). */
export function peakMiB(pid: number): number {
  const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!match) throw new Error(`process ${pid} has no VmHWM`);
  return Number(match[1]) / 1024;
}

/** How many descriptors a process has open (Linux). */
export function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
