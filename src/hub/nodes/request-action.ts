import { setTimeout as sleep } from 'node:timers/promises';
import type { TObject } from 'typebox';
import { isConflict, isNotFound, KubeUnreachableError } from '../../kube/errors.ts';
import { readOptions } from '../http/query-options.ts';
import type { Handler, Reply, RequestContext } from '../http/resource.ts';
import { conflict, forbidden, invalid, notFound, serviceUnavailable, tooManyRequests } from '../http/status.ts';
import { CloudError } from './clouds/cloud.ts';
import type { Evaluation } from './guards/evaluate.ts';
import { evaluate } from './guards/evaluate.ts';
import type { ActiveOperation } from './guards/guard.ts';
import type { InfraMachine, NodeFacts } from './node-facts.ts';
import { type Operation, operationName } from './operations/store.ts';
import type { NodeRoom } from './room.ts';
import {
  type Action,
  API_VERSION,
  GROUP,
  type GuardResult,
  type NodeOperation,
  type NodeOperationSpec,
  type NodeOperationStatus,
  RestartOptions,
  StartOptions,
  StopOptions,
} from './schema.ts';

const OPTIONS: Record<Action, TObject> = { Restart: RestartOptions, Stop: StopOptions, Start: StartOptions };

type Options = Partial<Omit<NodeOperationSpec, 'nodeName' | 'action' | 'requestedBy' | 'auditID'>>;

/** POST nodes/<n>/restart, /stop and /start: guards, then one ConfigMap, then 201. Nothing is asked of the cloud here, except by a dry run. */
export function requestAction(action: Action, room: NodeRoom): Handler {
  return async (context) => {
    const object = { group: GROUP, kind: 'nodes', name: context.info.name };
    if (!room.directory.cache.synced()) throw serviceUnavailable('the nodes have not been read from the API server yet');
    const node = room.directory.get(context.info.name);
    if (!node) throw notFound(object);
    const options = await readActionOptions(action, context);
    const found = room.directory.machine(node.name);
    if (!found || 'unsupported' in found) {
      throw invalid(object, [
        { reason: 'FieldValueNotSupported', message: found?.unsupported ?? 'the node has no machine', field: 'spec.providerID' },
      ]);
    }
    await mayForce(options, context);
    const spec = specOf(action, node, options, context);
    return options.dryRun?.length ? await dryRun(spec, node, found.machine, room) : await begin(spec, node, found.machine, room, context);
  };
}

async function readActionOptions(action: Action, context: RequestContext): Promise<Options> {
  const object = { group: GROUP, kind: 'nodes', name: context.info.name };
  const kind = `${action}Options`;
  const { value, warnings } = readOptions(OPTIONS[action], await context.body(), context.query, { kind, apiVersion: API_VERSION, object });
  for (const warning of warnings) context.warn(warning);
  const {
    apiVersion: _a,
    kind: _k,
    metadata: _m,
    ...options
  } = value as Options & { apiVersion?: string; kind?: string; metadata?: object };
  return options;
}

async function mayForce(options: Options, context: RequestContext): Promise<void> {
  if (!options.force && !options.disableEviction) return;
  if (await context.allowed('force')) return;
  const { name, resource, subresource, group } = context.info;
  const field = options.force ? 'force' : 'disableEviction';
  throw forbidden(
    { group, kind: resource, name },
    `${field}: User ${JSON.stringify(context.user.name)} cannot force resource "${resource}/${subresource}" in API group "${group}" at the cluster scope`,
  );
}

function specOf(action: Action, node: NodeFacts, options: Options, context: RequestContext): NodeOperationSpec {
  const { name: username, groups } = context.user;
  return { nodeName: node.name, action, ...options, requestedBy: { username, groups }, auditID: context.auditID };
}

async function judge(spec: NodeOperationSpec, node: NodeFacts, active: readonly ActiveOperation[], room: NodeRoom): Promise<Evaluation> {
  const input = { node, spec, nodes: () => room.directory.facts(), active, now: new Date() };
  return await evaluate(room.guards, input, spec.force ?? false);
}

function countRefusals(action: Action, { refused, skipped }: Evaluation, room: NodeRoom): void {
  for (const { guard } of [...refused, ...skipped]) room.metrics.refusals.inc({ guard, action });
}

/** Every guard and the cloud's own check; always 200, with the verdicts in `status.guards`. */
async function dryRun(spec: NodeOperationSpec, node: NodeFacts, machine: InfraMachine, room: NodeRoom): Promise<Reply> {
  const { results } = await judge(spec, node, room.ledger.active(), room);
  const guards = [...results, await cloudCheck(spec, node, room)];
  const refused = guards.filter((result) => !result.passed).length;
  const message =
    refused === 0
      ? 'every guard lets it through; nothing was changed'
      : `${refused} of ${guards.length} guards refuse; nothing was changed`;
  const operation: NodeOperation = {
    apiVersion: API_VERSION,
    kind: 'NodeOperation',
    metadata: { name: operationName(node.name, spec.action, spec.requestID), creationTimestamp: new Date().toISOString() },
    spec,
    status: { phase: 'Pending', message, machine, guards },
  };
  return { code: 200, object: operation };
}

async function cloudCheck(spec: NodeOperationSpec, node: NodeFacts, room: NodeRoom): Promise<GuardResult> {
  const guard = 'CloudDryRun';
  try {
    const { cloud, ref } = room.connect(node);
    const context = { signal: AbortSignal.timeout(15_000), beforeSend: () => undefined };
    const mode = spec.hard ? 'hard' : 'soft';
    if (spec.action === 'Start') await cloud.start(ref, { dryRun: true }, context);
    else if (spec.action === 'Stop' || (spec.hard && !cloud.hardRestart)) await cloud.stop(ref, { mode, dryRun: true }, context);
    else await cloud.restart(ref, { mode, dryRun: true }, context);
    return { guard, passed: true, forceable: false, message: `${cloud.name} would accept the call for ${ref.instanceID} in ${ref.region}` };
  } catch (error) {
    if (!(error instanceof CloudError)) throw error;
    return {
      guard,
      passed: false,
      forceable: false,
      message: error.message,
      remedy: error.kind === 'Forbidden' ? 'allow the call in the policy of the credentials of the hub' : 'look at kubectl infra instance',
    };
  }
}

/** How far the node caches of two replicas may be apart. */
const CACHE_LAG_MS = 250;

type Admission = { admitted: Evaluation } | { refused: Evaluation } | { full: number };

async function begin(
  spec: NodeOperationSpec,
  node: NodeFacts,
  machine: InfraMachine,
  room: NodeRoom,
  context: RequestContext,
): Promise<Reply> {
  const object = { group: GROUP, kind: 'nodes', name: node.name };
  const name = operationName(node.name, spec.action, spec.requestID);
  const known = spec.requestID ? room.operations.operation(name) : undefined;
  if (known) return { code: 200, object: known };

  const entry: ActiveOperation = { name, node: node.name, zone: node.zone, controlPlane: node.controlPlane, action: spec.action };
  const decide = () =>
    room.ledger.admit<Admission>(entry, async (active) => {
      if (active.length >= room.settings.maxOperations) return { admit: false, value: { full: active.length } };
      const evaluation = await judge(spec, room.directory.get(node.name) ?? node, active, room);
      return evaluation.refused.length === 0
        ? { admit: true, value: { admitted: evaluation } }
        : { admit: false, value: { refused: evaluation } };
    });
  let admission = await decide();
  if ('refused' in admission) {
    // Another replica may have seen a node come back a moment before this one: a refusal has to outlast that.
    await sleep(CACHE_LAG_MS);
    admission = await decide();
  }
  if (!('admitted' in admission)) {
    const repeated = spec.requestID ? await room.store.get(name).catch(() => undefined) : undefined;
    if (repeated) return { code: 200, object: repeated };
    if ('full' in admission)
      throw tooManyRequests(`${admission.full} node operations are running, which is the limit of the hub`, 10, object);
    countRefusals(spec.action, admission.refused, room);
    throw refusal(object, admission.refused.refused);
  }
  countRefusals(spec.action, admission.admitted, room);
  for (const skipped of admission.admitted.skipped) context.warn(`guard ${skipped.guard} skipped by force: ${skipped.message}`);
  return await create(name, spec, admittedStatus(node, machine, admission.admitted.results), room);
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

/** Writes the operation. When that fails for sure, its place in the ledger is given back. */
async function create(name: string, spec: NodeOperationSpec, status: NodeOperationStatus, room: NodeRoom): Promise<Reply> {
  let operation: Operation;
  try {
    operation = await room.store.create(name, spec, status);
  } catch (error) {
    if (isConflict(error) || error instanceof KubeUnreachableError) {
      // An answer that was lost, or a repeated request that was faster: what stands there decides.
      let unknown = false;
      const there = await room.store.get(name).catch((missing: unknown) => {
        unknown = !isNotFound(missing);
        return undefined;
      });
      if (there) return { code: isConflict(error) ? 200 : 201, object: there };
      // It may stand there and be run: its place is kept, and housekeeping clears it if there is nothing.
      if (unknown) throw error;
    }
    await room.ledger.remove([name]).catch(room.onError);
    throw error;
  }
  return { code: 201, object: operation };
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
