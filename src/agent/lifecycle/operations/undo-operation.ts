import { perform } from './actions.ts';
import { restoreImage } from './before-images.ts';
import type { EngineStep } from './engine-steps.ts';
import type { Execution, Outcome } from './execution.ts';
import { undoFailureOf } from './failure.ts';
import type { Image } from './records.ts';
import { StepError } from './step.ts';

const TRIES = 3;

/** Undoes every step that was begun, newest first. A step that cannot be undone does not keep the others from it. Undefined when the agent stops. */
export async function undoAll(execution: Execution): Promise<Outcome | undefined> {
  const { journal, signal, say, redact } = execution;
  const { state } = journal;
  try {
    for (const step of [...execution.steps].reverse()) {
      const progress = state.steps.find(({ name }) => name === step.name);
      if (!state.begun.has(step.name) || progress?.state === 'Undone' || state.remains.some((one) => one.step === step.name)) continue;
      if (signal.aborted) return undefined;
      await execution.persist({ kind: 'step', step: step.name, state: 'Undoing' });
      try {
        await undoStep(execution, step);
      } catch (error) {
        if (signal.aborted) return undefined;
        const failure = undoFailureOf(error, redact);
        say(step.name, `cannot be undone: ${failure.message}`);
        await execution.persist({ kind: 'remains', step: step.name, ...failure });
        continue;
      }
      await execution.persist({ kind: 'step', step: step.name, state: 'Undone' });
    }
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
  const { failure, remains } = state;
  const nextCommand = remains.find((one) => one.nextCommand !== undefined)?.nextCommand ?? failure?.nextCommand;
  const end =
    remains.length === 0 ? 'everything was undone' : `NOT undone: ${remains.map((one) => `step ${one.step}: ${one.message}`).join('; ')}`;
  return { phase: 'Failed', message: `${failure?.message ?? 'failed'}; ${end}`, ...(nextCommand !== undefined && { nextCommand }) };
}

/** The undo of one step and then its before-images, newest first; each tried three times. Rejects with the first thing that remains; the rest has been tried all the same. */
export async function undoStep(execution: Execution, step: EngineStep): Promise<void> {
  const failures: unknown[] = [];
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    const errors = await undoActions(execution, step, attempt === TRIES);
    if (errors.length === 0) break;
    if (execution.signal.aborted) throw errors[0];
    if (attempt === TRIES) failures.push(...errors);
  }
  const images = execution.journal.state.images.filter((image) => image.step === step.name).reverse();
  for (const [index, image] of images.entries()) {
    const error = await restored(execution, step, index, image);
    if (execution.signal.aborted) throw new StepError('the agent is stopping');
    if (error !== undefined) failures.push(error);
  }
  const units = images.filter(({ path }) => isUnitPath(path));
  if (units.length > 0) await reloadUnits(execution).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

/** systemd goes on with the unit files that it has read, until it is told. */
export function reloadUnits({ machine, signal }: Pick<Execution, 'machine' | 'signal'>): Promise<void> {
  return machine.changeService('', 'daemon-reload', signal);
}

export function isUnitPath(path: string): boolean {
  return /\/systemd\/system(\/|$)/.test(path);
}

/** Errors of one attempt; the first ends it unless it is the last attempt. */
async function undoActions(execution: Execution, step: EngineStep, last: boolean): Promise<unknown[]> {
  const errors: unknown[] = [];
  try {
    for (const [index, action] of (await step.undo(execution.context(step))).entries()) {
      if (execution.signal.aborted) throw new StepError('the agent is stopping');
      try {
        await perform(execution, step.name, index, action, true);
      } catch (error) {
        errors.push(error);
        if (!last || execution.signal.aborted) return errors;
      }
    }
  } catch (error) {
    errors.push(error);
  }
  return errors;
}

/** Undefined when it is as it was. */
async function restored(execution: Execution, step: EngineStep, index: number, image: Image): Promise<unknown> {
  const { persist, machine } = execution;
  const about = { kind: 'action', step: step.name, undo: true, index, what: `restore ${image.path}`, command: false } as const;
  let failure: unknown;
  for (let attempt = 1; attempt <= TRIES && !execution.signal.aborted; attempt++) {
    try {
      await persist({ ...about, edge: 'begin' });
      await restoreImage(machine, image);
      await persist({ ...about, edge: 'end' });
      return undefined;
    } catch (error) {
      failure = restoreFailure(error, image);
    }
  }
  return failure ?? new StepError('the agent is stopping');
}

/** With the command that does it by hand. */
export function restoreFailure(error: unknown, { path, kind, file }: Image): StepError {
  const why = error instanceof Error ? error.message : String(error);
  const copy = kind === 'copy' ? ` && cp -a ${file} ${path}` : '';
  return new StepError(`${path} was not put back as it was: ${why}`, kind === 'folder-absent' ? `rmdir ${path}` : `rm -rf ${path}${copy}`);
}
