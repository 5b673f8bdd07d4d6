import { badGateway, conflict, StatusError } from '../../kube/status.ts';
import type { AgentCluster } from './agents.ts';
import { GROUP } from './schema.ts';

/** Codes of an agent that mean the same for the caller. Others (401 for one: the caller is known here) are between hub and agent. */
const PASSED = new Set([400, 403, 404, 405, 406, 409, 413, 415, 422, 429, 500, 501, 503, 504]);
const MAX_MESSAGE = 8_192;
const MAX_CAUSES = 64;

type Cause = { reason?: unknown; message?: unknown; field?: unknown };
type Said = { message?: unknown; reason?: unknown; details?: { causes?: unknown; retryAfterSeconds?: unknown } };

/** What an agent says that has no such path: one that serves a cluster that others made, or is too old. */
const NO_SUCH_PATH = /^the agent has no \//;

/**
 * An agent's error as the caller is told it: its code, reason, message and causes; the object is the cluster as the parent knows it. An agent is not believed more than
 * that: what is no Status becomes 502.
 */
export function agentFailure(code: number, body: Buffer, cluster: AgentCluster): StatusError {
  const object = { group: GROUP, kind: 'clusters', name: cluster.name };
  const said = statusOf(body);
  if (!said || !PASSED.has(code)) return badGateway(`the agent of cluster ${cluster.name} answered ${code}, which it should not`, object);
  const message = textOf(said.message, MAX_MESSAGE) || `the agent answered ${code}`;
  if (code === 404 && NO_SUCH_PATH.test(message)) {
    return conflict(
      object,
      'its agent has no lifecycle API: it looks after a cluster that is there already, or is too old; an agent that makes clusters is started with --bare, see deploy/machine',
    );
  }
  const { causes, retryAfterSeconds } = said.details ?? {};
  return new StatusError(code, textOf(said.reason, 128) || 'Unknown', message, {
    ...object,
    causes: Array.isArray(causes) ? causes.slice(0, MAX_CAUSES).flatMap(causeOf) : [],
    ...(Number.isSafeInteger(retryAfterSeconds) && { retryAfterSeconds: Number(retryAfterSeconds) }),
  });
}

function statusOf(body: Buffer): Said | undefined {
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    const isStatus = typeof parsed === 'object' && parsed !== null && 'kind' in parsed && parsed.kind === 'Status';
    return isStatus ? (parsed as Said) : undefined;
  } catch {
    return undefined;
  }
}

function causeOf(cause: Cause | null): { reason: string; message: string; field?: string }[] {
  if (typeof cause !== 'object' || cause === null) return [];
  const field = textOf(cause.field, 512);
  return [{ reason: textOf(cause.reason, 128), message: textOf(cause.message, 2_048), ...(field && { field }) }];
}

const textOf = (value: unknown, limit: number) => (typeof value === 'string' ? value.slice(0, limit) : '');
