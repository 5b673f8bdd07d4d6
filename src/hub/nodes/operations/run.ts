import { randomUUID } from 'node:crypto';
import { KubeError } from '../../../kube/errors.ts';
import type { Leadership } from '../../../kube/leader-election.ts';
import { ProviderIDError } from '../clouds/provider-id.ts';
import { actOnMachine } from './act.ts';
import { announce } from './announce.ts';
import { OperationError } from './cloud-call.ts';
import { drainPhase } from './drain-phase.ts';
import { holdNode, releaseNode } from './hold-node.ts';
import { CancelledError, FencedError, type OperationRecord } from './record.ts';
import { type Run, type RunDependencies, runContext } from './run-context.ts';

type Outcome = { phase: 'Succeeded' | 'Failed' | 'Cancelled'; reason: string; message: string };

/** Runs an operation from wherever it stands to its end. Rejects with FencedError when this replica may not go on; then another one will. */
export async function runOperation(record: OperationRecord, leadership: Leadership, deps: RunDependencies): Promise<void> {
  const run = runContext(record, leadership, deps);
  await finish(run, await outcome(run));
}

/** What became of it. Only FencedError leaves: then another replica goes on from what is written. */
async function outcome(run: Run): Promise<Outcome> {
  const { record, name, spec } = run;
  try {
    await holdNode(run);
    if (record.status.phase === 'Pending') {
      announce(run, 'Started', '', `${spec.action.toLowerCase()} of ${record.status.machine?.instanceID} begins`);
    }
    await drainPhase(run);
    await actOnMachine(run);
    return { phase: 'Succeeded', reason: 'Done', message: doneMessage(record) };
  } catch (error) {
    if (error instanceof FencedError) throw error;
    if (error instanceof CancelledError) {
      return { phase: 'Cancelled', reason: 'Cancelled', message: `cancelled by ${error.message} before the cloud was called` };
    }
    if (error instanceof OperationError) return { phase: 'Failed', reason: error.reason, message: error.message };
    if (error instanceof ProviderIDError || error instanceof KubeError) return { phase: 'Failed', reason: 'Error', message: error.message };
    // Nobody foresaw it: its text is for the log.
    const id = randomUUID();
    run.onError(new Error(`operation ${name}, id ${id}: ${error instanceof Error ? error.message : String(error)}`, { cause: error }));
    return { phase: 'Failed', reason: 'InternalError', message: `an internal error occurred; the log of the hub has it under id ${id}` };
  }
}

async function finish(run: Run, { phase, reason, message }: Outcome): Promise<void> {
  const { record, name, node, spec, directory, ledger, patiently } = run;
  await releaseNode(run);
  const bootIDAfter = directory.get(node)?.bootID;
  // Before the end can be seen: who waits for it and asks for the next node must not be refused because of this one.
  await patiently(() => ledger.remove([name]));
  await record.enter(phase, message, { reason, ...(bootIDAfter && { bootIDAfter }), ...(spec.drain && { cordonedByOperation: false }) });
  announce(run, phase, reason, message);
}

function doneMessage(record: OperationRecord): string {
  const { action } = record.operation.spec;
  if (action === 'Stop') return 'the cloud says that the machine is stopped';
  if (action === 'Start' && !record.status.calls?.length) return 'the machine was running already';
  return 'the node has booted anew and is Ready';
}
