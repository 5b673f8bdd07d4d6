import type { OperationPlan, PlannedAction } from '../../../kube/lifecycle.ts';
import { AGENT_API_VERSION } from '../../../kube/lifecycle.ts';
import { conflict } from '../../../kube/status.ts';
import { describe } from './actions.ts';
import type { EngineStep } from './engine-steps.ts';
import type { OperationRequest } from './request.ts';
import { type Action, type StepContext, StepError } from './step.ts';

/**
 * What an operation would do now, step by step; steps whose work is done already are left out. Steps look at the machine and change nothing. Rejects with StatusError 409 when a step
 * refuses the machine as it is, before anything would have been changed: the operation would end there.
 */
export async function planOperation(given: {
  request: OperationRequest;
  steps: readonly EngineStep[];
  context: (step: EngineStep) => StepContext;
  /** What a step of the engine's own would do. */
  performs: (step: EngineStep) => PlannedAction[];
  redact: (text: string) => string;
}): Promise<OperationPlan> {
  const actions: PlannedAction[] = [];
  for (const step of given.steps) {
    const context = given.context(step);
    if (await step.check(context).catch(() => false)) continue;
    if (step.perform) actions.push(...given.performs(step));
    try {
      for (const action of await step.run(context)) actions.push(...planned(step.name, action, given.redact));
    } catch (error) {
      const why = given.redact(error instanceof Error ? error.message : String(error));
      if (error instanceof StepError && actions.every(({ kind }) => kind === 'wait')) throw refusal(step.name, why, error.nextCommand);
      // What it needs to look at is made by a step before it.
      actions.push({ step: step.name, kind: 'wait', text: `decided when the steps before it are done: ${why}` });
    }
  }
  return { apiVersion: AGENT_API_VERSION, kind: 'OperationPlan', operation: given.request.type, actions };
}

function refusal(step: string, why: string, nextCommand: string | undefined) {
  return conflict({}, `step ${step} would fail: ${why}${nextCommand === undefined ? '' : `; next: ${nextCommand}`}`);
}

function planned(step: string, action: Action, redact: (text: string) => string): PlannedAction[] {
  const text = redact(describe(action));
  if (action.kind === 'command') {
    const { argv, secret } = action.command;
    return [{ step, kind: 'command', argv: secret ? argv.slice(0, 1) : argv.map(redact), text }];
  }
  if (action.kind === 'write') {
    const { path, secret } = action;
    return [{ step, kind: 'write', path, mode: octal(action.mode), ...(!secret && { content: redact(action.content) }), text }];
  }
  if (action.kind === 'fetch') return [{ step, kind: 'fetch', path: action.path, mode: octal(action.mode), text }];
  if (action.kind === 'remove') return [{ step, kind: 'remove', path: action.path, text }];
  if (action.kind === 'service') return [{ step, kind: 'service', text }];
  // Saving what stands there changes nothing.
  return action.kind === 'claim' ? [] : [{ step, kind: 'wait', text }];
}

const octal = (mode: number) => mode.toString(8).padStart(4, '0');
