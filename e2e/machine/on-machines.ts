import { afterAll, beforeAll, beforeEach } from 'vitest';
import { diffState, type MachineState } from '../lab/machine/state.ts';
import { type Machine, noMachines } from '../lab/machine.ts';
import { createTeardown, type Teardown } from '../lab/teardown.ts';

/** Without `make machine-tools` before it, the programs of two versions of Kubernetes are built in the set-up. */
const SETUP_MS = 2_400_000;
/** A machine that does other work beside it is slow; an operation that takes longer than this hangs. */
export const OPERATION_MS = 900_000;

/**
 * Sets up what the tests of a file share, once, and takes down after them what was deferred, also by a test. Where machines cannot run, or for another reason `impossible`, the
 * tests are skipped and say why.
 */
export function onMachines(setUp: (teardown: Teardown) => Promise<void>, impossible: string | undefined = noMachines()): Teardown {
  const teardown = createTeardown();
  beforeAll(async () => {
    if (impossible === undefined) await setUp(teardown);
  }, SETUP_MS);
  afterAll(() => teardown.run(), SETUP_MS);
  beforeEach((context) => {
    if (impossible !== undefined) context.skip(impossible);
  });
  return teardown;
}

/** The machine as it is when nothing of it is on its way any more. */
export async function stateOf(machine: Machine): Promise<MachineState> {
  await machine.settled();
  return machine.snapshotState();
}

/** What is different since `before`, a line each; the agent's own state is not. */
export async function leftSince(before: MachineState, machine: Machine): Promise<string[]> {
  return diffState(before, await stateOf(machine)).filter((line) => !line.includes('/var/lib/fairlead-agent'));
}
