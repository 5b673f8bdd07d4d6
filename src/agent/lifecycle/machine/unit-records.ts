import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeDurably } from '../state/durable.ts';
import { identify, isAlive, leaderStartedWith, type ProcessId } from './processes.ts';

/** What is written down of the units that the agent keeps running. */
export type UnitRecords = {
  /** Names of the units that were started and not stopped since, whatever became of agent and machine meanwhile. */
  wanted(): Promise<string[]>;
  want(name: string): Promise<void>;
  unwant(name: string): Promise<void>;
  /** Its process; undefined when it does not run. */
  find(name: string): Promise<ProcessId | undefined>;
  /** Writes down that the unit runs as the process `pid`. */
  started(name: string, pid: number): Promise<ProcessId>;
  ended(name: string): Promise<void>;
  /** Belongs into the environment of the unit's process. */
  mark(name: string): Record<string, string>;
};

const MARK = 'FAIRLEAD_UNIT';

/** `keepDir` outlives a reboot. `runDir` needs not: a pid is taken for the unit's only together with the time at which the process began. */
export function unitRecords(keepDir: string, runDir: string): UnitRecords {
  const recordOf = (name: string) => join(runDir, `${name}.json`);
  const wishOf = (name: string) => join(keepDir, name);
  return {
    wanted: async () => (await readdir(keepDir).catch(() => [])).filter((name) => !name.endsWith('.tmp')).sort(),
    want: (name) => writeDurably(wishOf(name), ''),
    async unwant(name) {
      await rm(wishOf(name), { force: true });
      await syncFolder(keepDir).catch(() => undefined);
    },
    async find(name) {
      const noted = asProcess(await readFile(recordOf(name), 'utf8').catch(() => ''));
      if (noted && (await isAlive(noted))) return noted;
      // The agent may have died after it had started the unit and before it wrote that down.
      return leaderStartedWith(`${MARK}=${recordOf(name)}`);
    },
    async started(name, pid) {
      const process = (await identify(pid)) ?? { pid, started: '' };
      await mkdir(runDir, { recursive: true, mode: 0o700 });
      await writeFile(recordOf(name), JSON.stringify(process), { mode: 0o600 });
      return process;
    },
    ended: (name) => rm(recordOf(name), { force: true }),
    mark: (name) => ({ [MARK]: recordOf(name) }),
  };
}

function asProcess(text: string): ProcessId | undefined {
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found !== 'object' || found === null || !('pid' in found) || !('started' in found)) return undefined;
    return typeof found.pid === 'number' && found.pid > 1 && typeof found.started === 'string'
      ? { pid: found.pid, started: found.started }
      : undefined;
  } catch {
    return undefined; // Cut off by a power failure: nothing of it runs any more.
  }
}
