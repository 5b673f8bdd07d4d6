import { setTimeout as sleep } from 'node:timers/promises';
import { isConflict, isNotFound, KubeUnreachableError } from '../../kube/errors.ts';
import { conflict, tooManyRequests } from '../../kube/status.ts';
import type { Reply, RequestContext } from '../http/resource.ts';
import { AUDIT_OPERATION } from './annotations.ts';
import type { Evaluation } from './guards/evaluate.ts';
import type { ActiveOperation } from './guards/guard.ts';
import { countRefusals, judge } from './judge.ts';
import type { InfraMachine, NodeFacts } from './node-facts.ts';
import { type Operation, operationName } from './operations/store.ts';
import type { NodeRoom } from './room.ts';
import { GROUP, type GuardResult, type NodeOperationSpec, type NodeOperationStatus } from './schema.ts';

/** How far the node caches of two replicas may be apart. */
const CACHE_LAG_MS = 250;

type Admission = { admitted: Evaluation } | { refused: Evaluation } | { full: number };
/** `made` is false when the operation of a repeated request stood there already. */
type Created = { operation: Operation; made: boolean };

/**
 * Admits an operation and writes it. Its ConfigMap is written while the ledger is: nobody runs an operation that the ledger does not name, so the order does not
 * matter, and the caller waits for one write instead of two. Should the ledger refuse in the end, because another replica was faster, the ConfigMap is deleted.
 * Throws StatusError 409 with the guards that refuse, 429 when too many operations run.
 */
export async function beginOperation(
  spec: NodeOperationSpec,
  node: NodeFacts,
  machine: InfraMachine,
  room: NodeRoom,
  { warn, annotate }: Pick<RequestContext, 'warn' | 'annotate'>,
): Promise<Reply> {
  const answer = (code: number, operation: Operation): Reply => {
    annotate(AUDIT_OPERATION, operation.metadata.name);
    return { code, object: operation };
  };
  const name = operationName(node.name, spec.action, spec.requestID);
  const known = spec.requestID ? room.operations.operation(name) : undefined;
  if (known) return answer(200, known);

  const writing = writer(name, spec, room);
  let admission: Admission;
  try {
    admission = await admit(name, spec, node, room, (evaluation) => writing.start(admittedStatus(node, machine, evaluation.results)));
  } catch (error) {
    await writing.undo();
    throw error;
  }
  if ('admitted' in admission) {
    countRefusals(spec.action, admission.admitted, room);
    for (const skipped of admission.admitted.skipped) warn(`guard ${skipped.guard} skipped by force: ${skipped.message}`);
    const { operation, made } = await writing.finish();
    return answer(made ? 201 : 200, operation);
  }
  await writing.undo();
  const repeated = spec.requestID ? await room.store.get(name).catch(() => undefined) : undefined;
  if (repeated) return answer(200, repeated);
  const object = { group: GROUP, kind: 'nodes', name: node.name };
  if ('full' in admission)
    throw tooManyRequests(`${admission.full} node operations are running, which is the limit of the hub`, 10, object);
  countRefusals(spec.action, admission.refused, room);
  throw refusal(object, admission.refused.refused);
}

async function admit(
  name: string,
  spec: NodeOperationSpec,
  node: NodeFacts,
  room: NodeRoom,
  admitted: (evaluation: Evaluation) => void,
): Promise<Admission> {
  const entry: ActiveOperation = { name, node: node.name, zone: node.zone, controlPlane: node.controlPlane, action: spec.action };
  const decide = () =>
    room.ledger.admit<Admission>(entry, async (active) => {
      if (active.length >= room.settings.maxOperations) return { admit: false, value: { full: active.length } };
      const evaluation = await judge(spec, room.directory.get(node.name) ?? node, active, room);
      if (evaluation.refused.length > 0) return { admit: false, value: { refused: evaluation } };
      admitted(evaluation);
      return { admit: true, value: { admitted: evaluation } };
    });
  const first = await decide();
  if (!('refused' in first)) return first;
  // Another replica may have seen a node come back a moment before this one: a refusal has to outlast that.
  await sleep(CACHE_LAG_MS);
  return await decide();
}

/** Writes the ConfigMap of an operation in the background. */
function writer(name: string, spec: NodeOperationSpec, room: NodeRoom) {
  let writing: Promise<Created> | undefined;
  return {
    /** At the first call; a second judgement does not write again. */
    start(status: NodeOperationStatus): void {
      if (writing !== undefined) return;
      writing = create(name, spec, status, room);
      // Looked at in finish() or undo(); until then a failure must not count as unhandled.
      writing.catch(() => undefined);
    },
    async finish(): Promise<Created> {
      if (!writing) throw new Error(`operation ${name} was admitted without being written`);
      try {
        return await writing;
      } catch (error) {
        // What may stand there keeps its place, and housekeeping clears it if there is nothing.
        const surelyNot = !(error instanceof KubeUnreachableError) || !error.sent;
        if (surelyNot) await room.ledger.remove([name]).catch(room.onError);
        throw error;
      }
    },
    /** Not admitted: what was written goes away again. When that fails, the leader ends it after a while. */
    async undo(): Promise<void> {
      const created = await writing?.catch(() => undefined);
      if (created?.made) await room.store.delete(created.operation).catch(room.onError);
    },
  };
}

async function create(name: string, spec: NodeOperationSpec, status: NodeOperationStatus, room: NodeRoom): Promise<Created> {
  try {
    return { operation: await room.store.create(name, spec, status), made: true };
  } catch (error) {
    if (!isConflict(error) && !(error instanceof KubeUnreachableError)) throw error;
    // An answer that was lost, or a repeated request that was faster: what stands there decides.
    try {
      return { operation: await room.store.get(name), made: !isConflict(error) };
    } catch (missing) {
      // Nothing stands there: then the write has failed for sure, and the error says so. To the caller it is an API server that cannot be reached.
      throw isNotFound(missing) && error instanceof KubeUnreachableError ? new KubeUnreachableError(error.message, false, error) : error;
    }
  }
}

function admittedStatus(node: NodeFacts, machine: InfraMachine, guards: GuardResult[]): NodeOperationStatus {
  const message = 'admitted, waiting for the leading replica';
  return {
    phase: 'Pending',
    message,
    machine,
    ...(node.bootID && { bootIDBefore: node.bootID }),
    readyBefore: node.ready === 'True',
    unschedulableBefore: node.unschedulable,
    guards,
    history: [{ phase: 'Pending', time: new Date().toISOString(), message }],
  };
}

function refusal(object: { group: string; kind: string; name: string }, refused: GuardResult[]) {
  const text = (result: GuardResult) => (result.remedy ? `${result.message}. To clear: ${result.remedy}` : result.message);
  return conflict(object, refused.map((result) => `guard ${result.guard} refuses: ${result.message}`).join('; '), {
    causes: refused.map((result) => ({
      reason: result.forceable === false ? 'GuardRefusedFinally' : 'GuardRefused',
      field: result.guard,
      message: text(result),
    })),
  });
}
