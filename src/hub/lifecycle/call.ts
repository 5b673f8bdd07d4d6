import { badGateway, conflict, StatusError, timeout } from '../../kube/status.ts';
import { encodeCaller } from '../../tunnel/caller.ts';
import type { RequestContext } from '../http/resource.ts';
import { agentFailure } from './agent-failure.ts';
import type { AgentCluster, Agents } from './agents.ts';
import { type AgentRequest, type OpenAnswer, openExchange, wholeBody } from './exchange.ts';
import { GROUP } from './schema.ts';

/** Of an error; the longest true ones are those of a validation. */
const MAX_ERROR_BYTES = 256 * 1024;

export type Call = {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path and query at the agent. */
  path: string;
  accept?: string;
  body?: { bytes: Buffer; type: string };
};

/** Calls agents in the name of whoever asked the hub. */
export type AgentCalls = {
  /** The cluster of the request, and the answer's head and body. Throws StatusError, the agent's own too. */
  open(context: RequestContext, call: Call): Promise<{ cluster: AgentCluster; answer: OpenAnswer }>;
  /** The same with the whole body, at most `limit` bytes, parsed as a JSON object. */
  object(
    context: RequestContext,
    call: Call,
    limit: number,
  ): Promise<{ cluster: AgentCluster; code: number; value: Record<string, unknown> }>;
};

export function agentCalls(agents: Agents): AgentCalls {
  async function open(context: RequestContext, call: Call) {
    const cluster = agents.find(context.info.name);
    if (agents.protocol(cluster) === 'clusternet') {
      throw conflict(
        { group: GROUP, kind: 'clusters', name: cluster.name },
        "its agent is clusternet's, which has no API of its own; install fairlead-agent there",
      );
    }
    const upstream = await agents.upstream(cluster);
    const failure = (error: unknown) => told(agents, error, call, cluster, context.signal);
    const request: AgentRequest = {
      method: call.method,
      path: call.path,
      headers: [
        'accept',
        call.accept ?? 'application/json',
        'audit-id',
        context.auditID,
        ...(call.body ? ['content-type', call.body.type] : []),
        ...callerHeaders(context),
      ],
      ...(call.body && { body: call.body.bytes }),
    };
    const answer = await openExchange(upstream, request, context.signal).catch((error: unknown) => {
      throw failure(error);
    });
    if (answer.code >= 200 && answer.code < 300) return { cluster, answer };
    const body = await wholeBody(answer, MAX_ERROR_BYTES).catch((error: unknown) => {
      throw failure(error);
    });
    throw agentFailure(answer.code, body, cluster);
  }

  return {
    open,
    async object(context, call, limit) {
      const { cluster, answer } = await open(context, call);
      const body = await wholeBody(answer, limit).catch((error: unknown) => {
        throw told(agents, error, call, cluster, context.signal);
      });
      return { cluster, code: answer.code, value: objectOf(body, cluster) };
    },
  };
}

/** The caller as the agent is told it. The extras stay here: they may hold a credential of the child, and the agent's own API has no use for them. */
function callerHeaders({ user }: RequestContext): string[] {
  return encodeCaller({ name: user.name, uid: user.uid, groups: user.groups.filter((group) => group !== ''), extra: {} });
}

/** What stopped a call. A change whose answer was lost may have begun: that is said. */
function told(agents: Agents, error: unknown, { method }: Call, { name }: AgentCluster, signal: AbortSignal): unknown {
  // The caller has gone, or the time of the request is over: the latter is for the caller to hear.
  const { reason: over } = signal as { reason: unknown };
  if (signal.aborted && !(over instanceof DOMException && over.name === 'TimeoutError')) return over;
  const status = signal.aborted
    ? timeout(`the agent of cluster ${name} did not answer in time`)
    : error instanceof StatusError
      ? error
      : error instanceof Error
        ? agents.failure(error)
        : undefined;
  if (!status) return error;
  const { code, reason, message } = status.status;
  if (method === 'GET' || code < 500) return status;
  return new StatusError(code, reason, `${message}; it may have begun: look at clusters/${name}/lifecycle before trying again`);
}

function objectOf(body: Buffer, { name }: AgentCluster): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw badGateway(`the agent of cluster ${name} did not answer with a JSON object`);
}
