import type { Machine } from '../machine/machine.ts';
import { mergeBaseline, readBaseline } from './baseline.ts';
import { restoreImage } from './before-images.ts';
import type { Disk } from './disk.ts';
import type { OperationState } from './records.ts';
import { StepError } from './step.ts';
import { isUnitPath, reloadUnits, restoreFailure } from './undo-operation.ts';

/**
 * Puts every file back as it was before the cluster, newest change first, and then forgets the baseline. One that cannot be put back does not keep the others from it; the first
 * such is thrown in the end. May be repeated, also after it was cut.
 */
export async function restoreBaseline(given: {
  disk: Disk;
  machine: Machine;
  /** Of the baseline. */
  folder: string;
  /** Of the Delete that does this: what its own steps before have saved counts too. */
  state: OperationState | undefined;
  say: (line: string) => void;
  signal: AbortSignal;
}): Promise<void> {
  const { disk, machine, folder, state, say, signal } = given;
  if (state && state.images.length > 0) {
    await mergeBaseline(
      disk,
      folder,
      state,
      [...state.begun].map((name) => ({ name, folder: '' })),
    );
  }
  const images = [...(await readBaseline(folder)).images].reverse();
  const failures: StepError[] = [];
  for (const image of images) {
    if (signal.aborted) throw new StepError('the agent is stopping');
    await restoreImage(machine, image).catch((error: unknown) => {
      const failure = restoreFailure(error, image);
      say(failure.message);
      failures.push(failure);
    });
  }
  if (images.some(({ path }) => isUnitPath(path))) await reloadUnits({ machine, signal });
  const [first] = failures;
  if (first) throw failures.length === 1 ? first : new StepError(`${first.message}; and ${failures.length - 1} more`, first.nextCommand);
  await disk.remove(folder);
}
