import type { TObject } from 'typebox';
import { forbidden, invalid, notFound, serviceUnavailable } from '../../kube/status.ts';
import { readOptions } from '../http/query-options.ts';
import type { Handler, Reply, RequestContext } from '../http/resource.ts';
import { AUDIT_DISABLE_EVICTION, AUDIT_DRY_RUN, AUDIT_FORCE, AUDIT_REASON } from './annotations.ts';
import { beginOperation } from './begin-operation.ts';
import { CloudError } from './clouds/cloud.ts';
import { judge } from './judge.ts';
import type { InfraMachine, NodeFacts } from './node-facts.ts';
import { operationName } from './operations/store.ts';
import type { NodeRoom } from './room.ts';
import {
  type Action,
  API_VERSION,
  GROUP,
  type GuardResult,
  type NodeOperation,
  type NodeOperationSpec,
  RestartOptions,
  StartOptions,
  StopOptions,
} from './schema.ts';

const OPTIONS: Record<Action, TObject> = { Restart: RestartOptions, Stop: StopOptions, Start: StartOptions };

/** What a client is told to wait while the nodes are not known; the watch is tried again at least every 5 s. */
const RETRY_SECONDS = 2;

type Options = Partial<Omit<NodeOperationSpec, 'nodeName' | 'action' | 'requestedBy' | 'auditID'>>;

/** POST nodes/<n>/restart, /stop and /start: guards, then one ConfigMap, then 201. Nothing is asked of the cloud here, except by a dry run. */
export function requestAction(action: Action, room: NodeRoom): Handler {
  return async (context) => {
    const object = { group: GROUP, kind: 'nodes', name: context.info.name };
    // Guards that judge by an old copy let through what is not true any more.
    const stale = room.directory.cache.stale();
    if (stale) {
      const message = `nothing was done, because the hub cannot tell how the nodes are: its copy of them ${stale}; try again`;
      throw serviceUnavailable(message, { ...object, retryAfterSeconds: RETRY_SECONDS });
    }
    const node = room.directory.get(context.info.name);
    if (!node) throw notFound(object);
    const options = await readActionOptions(action, context);
    annotate(options, context);
    const found = room.directory.machine(node.name);
    if (!found || 'unsupported' in found) {
      throw invalid(object, [
        { reason: 'FieldValueNotSupported', message: found?.unsupported ?? 'the node has no machine', field: 'spec.providerID' },
      ]);
    }
    await mayForce(options, context);
    const spec = specOf(action, node, options, context);
    return options.dryRun?.length
      ? await dryRun(spec, node, found.machine, room)
      : await beginOperation(spec, node, found.machine, room, context);
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

/** For the audit line, also of a request that is refused. */
function annotate({ reason, force, disableEviction, dryRun }: Options, context: RequestContext): void {
  if (reason) context.annotate(AUDIT_REASON, reason);
  if (force) context.annotate(AUDIT_FORCE, 'true');
  if (disableEviction) context.annotate(AUDIT_DISABLE_EVICTION, 'true');
  if (dryRun?.length) context.annotate(AUDIT_DRY_RUN, 'true');
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
