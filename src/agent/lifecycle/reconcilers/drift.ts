import type { MachineView } from '../machine/machine.ts';
import type { WrittenFile } from '../operations/request.ts';
import type { StateFile } from '../state/state.ts';
import { type Drift, findDrift } from './find-drift.ts';
import type { Reconciler } from './loops.ts';

const TIMEOUT_MS = 300_000;
/** Binaries are read in one of so many looks. */
const THOROUGH_EVERY = 12;
const NAMED = 5;

/** Watches the files and sysctls that operations wrote. Nothing is put back unasked. */
export function driftReconciler(given: {
  everyMs: number;
  state: StateFile;
  machine: MachineView;
  written: () => Promise<WrittenFile[]>;
  seen: (drift: readonly Drift[]) => void;
  now: () => Date;
}): Reconciler & { forget(): void } {
  const { state, machine } = given;
  let looks = 0;
  let drift: readonly Drift[] = [];
  return {
    /** The next look is thorough, and what was seen does not count any more. */
    forget() {
      looks = 0;
      drift = [];
    },
    name: 'drift-reconciler',
    everyMs: given.everyMs,
    timeoutMs: TIMEOUT_MS,
    async run(signal) {
      if (!state.get().installed) {
        drift = [];
        given.seen(drift);
        return 'there is no cluster';
      }
      const thorough = looks++ % THOROUGH_EVERY === 0;
      const found = await findDrift(machine, await given.written(), { thorough, signal });
      // What only a thorough look can see stays until the next one.
      drift = thorough
        ? found
        : [...found, ...drift.filter((old) => old.problem === 'changed' && !found.some(({ path }) => path === old.path) && old.large)];
      given.seen(drift);
      const names = drift.slice(0, NAMED).map(({ path, problem }) => `${path} ${problem}`);
      const message = `${names.join(', ')}${drift.length > NAMED ? ` and ${drift.length - NAMED} more` : ''}`;
      state.observe(
        [
          drift.length === 0
            ? { type: 'FilesUnchanged', status: 'True', reason: 'AsWritten', message: '', severity: '' }
            : { type: 'FilesUnchanged', status: 'False', reason: 'Drift', message, severity: 'Warning' },
        ],
        given.now(),
      );
      return drift.length === 0 ? 'files and sysctls are as they were written' : message;
    },
  };
}
