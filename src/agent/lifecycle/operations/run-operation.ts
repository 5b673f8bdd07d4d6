import { join } from 'node:path';
import type { OperationType } from '../../../kube/lifecycle.ts';
import { perform } from './actions.ts';
import { saveImages, touchedBy } from './before-images.ts';
import type { EngineStep } from './engine-steps.ts';
import type { Execution, Outcome } from './execution.ts';
import { failureOf } from './failure.ts';
import { StepError } from './step.ts';
import { undoAll, undoStep } from './undo-operation.ts';

/** How often a step is taken up again before the operation is undone. */
const MOST_RESUMES = 3;

/** Operations that are not undone when a step fails, and what is said then: they bring the machine nearer to what was asked for with each thing that they do. */
const NOT_UNDONE: Readonly<Partial<Record<OperationType, string>>> = {
  Delete: 'what was deleted before stays deleted, and delete can be asked for again',
  Repair: 'what was put back before stays so, and repair can be asked for again',
};

/**
 * Takes an operation from where its journal says to its end: all steps done, or, when one fails, everything undone. Resolves to what is left to be written down, or to undefined
 * when the agent stops; the next one goes on then. A failing Delete or Repair is not undone: it stops, and can be begun again.
 */
export async function runOperation(execution: Execution): Promise<Outcome | undefined> {
  const { journal, signal, redact, say } = execution;
  const { state } = journal;
  if (state.phase === 'Undoing') return undoAll(execution);
  for (const step of execution.steps) {
    const progress = state.steps.find(({ name }) => name === step.name);
    if (progress?.state === 'Done' || progress?.state === 'Skipped') continue;
    if (signal.aborted) return undefined;
    try {
      await runStep(execution, step, progress?.state === 'Running');
    } catch (error) {
      if (signal.aborted) return undefined;
      const failure = failureOf(error, redact);
      const message = `step ${step.name} failed: ${failure.message}`;
      say(step.name, message);
      const kept = NOT_UNDONE[state.request.type];
      const stopped = await settle(execution, async () => {
        await execution.persist({ kind: 'step', step: step.name, state: 'Failed' });
        if (kept === undefined) await execution.persist({ kind: 'undoing', ...failure, message });
      });
      if (stopped) return undefined;
      return kept === undefined ? undoAll(execution) : { phase: 'Failed', ...failure, message: `${message}; ${kept}` };
    }
  }
  return { phase: 'Succeeded' };
}

/** True when the agent stopped meanwhile. */
async function settle(execution: Execution, work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return false;
  } catch (error) {
    if (execution.signal.aborted) return true;
    throw error;
  }
}

async function runStep(execution: Execution, step: EngineStep, begun: boolean): Promise<void> {
  const { machine, journal, record, folder } = execution;
  const context = execution.context(step);
  const { name } = step;
  if (begun) {
    if (await finished(execution, step)) return record({ kind: 'step', step: name, state: 'Done' });
    await takeUp(execution, step);
  } else {
    if (await step.check(context)) {
      execution.say(name, 'is so already');
      return record({ kind: 'step', step: name, state: 'Skipped' });
    }
    await record({ kind: 'step', step: name, state: 'Running' });
  }
  if (step.perform) await step.perform(context);
  const actions = await step.run(context);
  if (step.saves) {
    await saveImages({
      machine,
      step: name,
      paths: actions.flatMap(touchedBy),
      have: journal.state.images,
      place: (n) => join(folder, 'before', String(n)),
      keep: (image) => record({ kind: 'image', image }),
    });
  }
  for (const [index, action] of actions.entries()) {
    refuseWhenStopping(execution);
    await perform(execution, name, index, action, false);
  }
  refuseWhenStopping(execution);
  await step.verify(context);
  await record({ kind: 'step', step: name, state: 'Done' });
}

/** Whether a step that a crash cut was through already. */
async function finished(execution: Execution, step: EngineStep): Promise<boolean> {
  const context = execution.context(step);
  if (!(await step.check(context))) return false;
  return step.verify(context).then(
    () => true,
    () => false,
  );
}

/** What is done about a step in which the agent died, before it is run anew. */
async function takeUp(execution: Execution, step: EngineStep): Promise<void> {
  const times = execution.journal.state.resumedIn.get(step.name) ?? 0;
  if (times > MOST_RESUMES) throw new StepError(`the agent died ${times} times while it ran`);
  if (step.afterCrash === 'abandon') throw new StepError('the agent died while it ran, and it cannot be taken up again');
  if (step.afterCrash !== 'repeat') await undoStep(execution, step);
}

function refuseWhenStopping({ signal }: Execution): void {
  if (signal.aborted) throw new StepError('the agent is stopping');
}
