import type { MachineView } from '../machine/machine.ts';
import type { WrittenFile } from '../operations/request.ts';

/** A file or sysctl that is no longer as an operation wrote it. */
export type Drift = {
  /** Path of a file, or name of a sysctl. */
  path: string;
  problem: 'changed' | 'missing';
  /** For a sysctl: what it shall be. */
  wanted?: string;
  /** Only a thorough look can see it. */
  large?: boolean;
};

/** Files of this size and more (binaries) are read only when the look is thorough; their size and mode are compared each time. */
const LARGE_BYTES = 4 << 20;
const SYSCTL_FILE = /^\/etc\/sysctl\.d\/[^/]+\.conf$/;

/** What differs, files first. Rejects when the machine cannot be read. */
export async function findDrift(
  machine: MachineView,
  written: readonly WrittenFile[],
  options: { thorough: boolean; signal: AbortSignal },
): Promise<Drift[]> {
  const drift: Drift[] = [];
  for (const file of written) {
    options.signal.throwIfAborted();
    const found = await machine.stat(file.path);
    if (!found) drift.push({ path: file.path, problem: 'missing' });
    else if (found.type !== 'file' || (found.mode & 0o7777) !== file.mode) drift.push({ path: file.path, problem: 'changed' });
    else {
      const large = found.size >= LARGE_BYTES;
      if (large && !options.thorough) continue;
      if ((await machine.digest(file.path)) !== file.digest) drift.push({ path: file.path, problem: 'changed', ...(large && { large }) });
    }
  }
  for (const { path } of written) {
    if (!SYSCTL_FILE.test(path) || drift.some((one) => one.path === path)) continue;
    for (const [name, wanted] of sysctlsOf((await machine.read(path)) ?? '')) {
      const value = await machine.read(`/proc/sys/${procPath(name)}`);
      // A name that this kernel does not have was none when it was written either.
      if (value !== undefined && plain(value) !== plain(wanted)) drift.push({ path: name, problem: 'changed', wanted });
    }
  }
  return drift;
}

/** The settings of a file of sysctl.d: a `-` before a name and comments do not count. */
export function sysctlsOf(text: string): [name: string, value: string][] {
  return text
    .split('\n')
    .map((line) => /^\s*-?([A-Za-z0-9_./*-]+)\s*=\s*(.*?)\s*$/.exec(line))
    .flatMap((match) =>
      match?.[1] && match[2] !== undefined && !match[1].includes('*') && !match[1].includes('..')
        ? [[match[1], match[2]] as [string, string]]
        : [],
    );
}

/** In a name the first separator decides which of `.` and `/` is the other one's stand-in (sysctl.d(5)). */
function procPath(name: string): string {
  if (/^[^./]*\//.test(name)) return name;
  return name.replaceAll(/[./]/g, (one) => (one === '.' ? '/' : '.'));
}

const plain = (value: string) => value.trim().replaceAll(/\s+/g, ' ');
