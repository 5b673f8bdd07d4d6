import type { ConditionType, LifecycleOperation, LifecyclePhase, OperationType } from '../../../kube/lifecycle.ts';
import type { ConditionChange, State } from './state.ts';

/**
 * The phase while an operation runs; undefined: it stays what it was. kubeclusteragent has no word for a patch: it is shown as Upgrading, since the cluster goes
 * from one spec to another in the same way.
 */
const WHILE: Readonly<Record<OperationType, LifecyclePhase | undefined>> = {
  Install: 'Provisioning',
  Upgrade: 'Upgrading',
  Patch: 'Upgrading',
  Delete: 'Deleting',
  RotateCertificates: 'KubeConfigResetting',
  Repair: undefined,
  Restart: undefined,
};

export const isRunning = (operation: LifecycleOperation | undefined): boolean =>
  operation?.phase === 'Running' || operation?.phase === 'Undoing';

/** `pending`: the end of the operation was not recorded yet. */
export function phaseNow(rest: LifecyclePhase, operation: LifecycleOperation | undefined, pending: boolean): LifecyclePhase {
  return (operation && (pending || isRunning(operation)) ? WHILE[operation.type] : undefined) ?? rest;
}

/** Whether the cluster was begun to be deleted and is not gone: parts of it are missing, and the machine is not as it was before. */
export const deletionFailed = ({ phase, conditions }: Readonly<State>): boolean =>
  phase === 'Failed' && conditions.some(({ type, status }) => type === 'DeleteSuccess' && status === 'False');

/** Whether an operation that failed left something that was not taken back. */
const leftSomething = ({ steps }: LifecycleOperation) =>
  steps.some(({ state }) => state === 'Done' || state === 'Running' || state === 'Undoing' || state === 'Failed');

/** The phase after an operation. `before` is the one that it was begun in. */
export function phaseAfter(operation: LifecycleOperation, before: LifecyclePhase): LifecyclePhase {
  const succeeded = operation.phase === 'Succeeded';
  switch (operation.type) {
    case 'Install':
      return succeeded ? 'Provisioned' : 'Failed';
    case 'Delete':
      return succeeded ? 'Deleted' : 'Failed';
    case 'Upgrade':
    case 'Patch':
    case 'RotateCertificates':
      // What failed and was taken back leaves the cluster as it was before; what could not be taken back is left to a person.
      if (succeeded) return 'Provisioned';
      return leftSomething(operation) ? 'Failed' : before;
    default:
      return before;
  }
}

const RESULT: Readonly<Partial<Record<OperationType, ConditionType>>> = {
  Install: 'InstallSuccess',
  Upgrade: 'UpgradeSuccess',
  Patch: 'UpgradeSuccess',
  Delete: 'DeleteSuccess',
};

/** The conditions that tell how an operation ended. */
export function conditionsAfter(operation: LifecycleOperation): ConditionChange[] {
  const type = RESULT[operation.type];
  if (type === undefined) return [];
  const succeeded = operation.phase === 'Succeeded';
  return [
    {
      type,
      status: succeeded ? 'True' : 'False',
      reason: `${operation.type}${succeeded ? 'Succeeded' : 'Failed'}`,
      message: succeeded ? '' : (operation.message ?? ''),
      severity: succeeded ? '' : 'Error',
    },
  ];
}
