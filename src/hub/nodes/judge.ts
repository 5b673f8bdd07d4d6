import { type Evaluation, evaluate } from './guards/evaluate.ts';
import type { ActiveOperation } from './guards/guard.ts';
import type { NodeFacts } from './node-facts.ts';
import type { NodeRoom } from './room.ts';
import type { Action, NodeOperationSpec } from './schema.ts';

/** Asks all guards about an operation, given those that are active. */
export async function judge(
  spec: NodeOperationSpec,
  node: NodeFacts,
  active: readonly ActiveOperation[],
  room: NodeRoom,
): Promise<Evaluation> {
  const input = { node, spec, nodes: () => room.directory.facts(), active, now: new Date() };
  return await evaluate(room.guards, input, spec.force ?? false);
}

/** Counts refusals for the metrics, also those that force has skipped. */
export function countRefusals(action: Action, { refused, skipped }: Evaluation, room: NodeRoom): void {
  for (const { guard } of [...refused, ...skipped]) room.metrics.refusals.inc({ guard, action });
}
