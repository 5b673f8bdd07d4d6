import type { Action, Step, StepContext } from '../../operations/step.ts';
import { kubectl } from '../common/kubectl.ts';
import { nodeName, onlyNode, waitApi } from '../common/node-state.ts';
import { step } from '../common/run.ts';
import { ADMIN_CONF } from './paths.ts';

/** Whether the node is cordoned. Rejects when the API server does not answer. */
export const isCordoned = async ({ machine, signal }: StepContext): Promise<boolean> =>
  (await onlyNode(machine, ADMIN_CONF, signal))?.spec?.unschedulable === true;
const change = (context: StepContext, cordon: boolean): Action[] => [
  waitApi(ADMIN_CONF),
  { kind: 'command', command: kubectl(ADMIN_CONF, [cordon ? 'cordon' : 'uncordon', nodeName(context.facts.hostname)]) },
];

/**
 * The node takes pods, or none. `turnedBack`: whether undo turns it back; not for an install, which takes the whole cluster away. `name`: of the step.
 */
export function schedulingStep(name: string, cordon: boolean, turnedBack: boolean): Step {
  return step({
    name,
    check: async (context) =>
      (await context.machine.stat(ADMIN_CONF)) !== undefined && (await isCordoned(context).catch(() => !cordon)) === cordon,
    run: async (context) => change(context, cordon),
    verify: async (context) => {
      if ((await isCordoned(context)) !== cordon) throw new Error(`the node is ${cordon ? 'not cordoned' : 'still cordoned'}`);
    },
    undo: async (context) => (turnedBack && (await context.machine.stat(ADMIN_CONF)) ? change(context, !cordon) : []),
    afterCrash: 'repeat',
  });
}
