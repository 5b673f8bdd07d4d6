import { evaluate } from '../guards/evaluate.ts';
import type { GuardResult } from '../schema.ts';
import { OperationError } from './cloud-call.ts';
import type { Run } from './run-context.ts';

const POLL_MS = 250;
/** The replica that admitted the operation may have seen nodes come back that this one has not yet: a refusal, which ends the operation, has to outlast that. */
const LAG_MS = 1_000;

/**
 * Asks guards once more, right before a call that would be the first to reach the machine: what they protect may have changed while the operation waited for a
 * leader, for its pods to go, for its turn, or for an answer that never came. Throws OperationError GuardRefused, or NodesUnknown when the nodes cannot be read
 * until `leftMs` is over.
 */
export async function recheckGuards(run: Run, leftMs: () => number): Promise<void> {
  const { node, name, spec, record, directory, guards, ledger, pause } = run;
  // The machine is in the middle of it: a hard restart that has stopped it must start it again.
  if (record.status.calls?.some(({ state }) => state === 'Accepted')) return;
  for (let stale = directory.cache.stale(); stale; stale = directory.cache.stale()) {
    if (leftMs() <= 0)
      throw new OperationError('NodesUnknown', `guards could not be asked before the call: the hub's copy of the nodes ${stale}`);
    await pause(POLL_MS);
  }
  const again = guards.filter((guard) => guard.recheck);
  const refusal = async (): Promise<GuardResult | undefined> => {
    const facts = directory.get(node);
    if (!facts) return undefined;
    const active = ledger.active().filter((other) => other.name !== name);
    const input = { node: facts, spec, nodes: () => directory.facts(), active, now: new Date() };
    return (await evaluate(again, input, spec.force ?? false)).refused[0];
  };
  let refused = await refusal();
  for (const since = performance.now(); refused && performance.now() - since < LAG_MS; refused = await refusal()) await pause(POLL_MS);
  if (refused) throw new OperationError('GuardRefused', `right before the call, guard ${refused.guard} refuses: ${refused.message}`);
}
