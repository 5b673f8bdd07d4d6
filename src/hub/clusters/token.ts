import type { ClusterRegistrationRequest } from '../../kube/clusternet.ts';
import { seal } from '../../tunnel/seal.ts';
import { requestToken } from './credential.ts';
import { type RequestStatus, report } from './request-status.ts';
import type { LeadingRoom } from './room.ts';

/** A token that ends sooner is replaced: an agent that was away finds one that works. An agent that is there has renewed long before. */
const MARGIN_MS = 60_000;
/** An agent without a sealing key is one of clusternet's, and those never ask again. */
const CLUSTERNET_SECONDS = 365 * 86_400;
/** Credential ids that count at the same time: the new one, and those that the agent may still use. */
const KEPT_IDS = 3;

/** Milliseconds until the token of an approved request is due for replacement; 0 when it is now. `status` may be without the credentials (`whole` false). */
export function tokenDueIn({ spec, status }: ClusterRegistrationRequest, whole: boolean, now = Date.now()): number {
  if (status?.result !== 'Approved') return 0;
  if (whole && !(spec.sealingKey ? status.sealedToken : status.token)) return 0;
  if ((spec.renewal ?? '') !== (status.renewal ?? '')) return 0;
  const left = Date.parse(status.tokenExpirationTimestamp ?? '') - MARGIN_MS - now;
  return left > 0 ? left : 0;
}

/** A new token, as the part of the status that has it: sealed to the agent's key, or readable for an agent that has none. */
export async function newToken(
  request: ClusterRegistrationRequest,
  namespace: string,
  room: LeadingRoom,
): Promise<Pick<RequestStatus, 'token' | 'sealedToken' | 'tokenExpirationTimestamp' | 'renewal' | 'credentialIDs'>> {
  const { spec, status } = request;
  const { tokenSeconds } = room.settings;
  const seconds = spec.sealingKey ? tokenSeconds : Math.max(tokenSeconds, CLUSTERNET_SECONDS);
  const { token, expires, id } = await requestToken(room.client, namespace, seconds, room.signal);
  const before = status?.result === 'Approved' ? (status.credentialIDs ?? []) : [];
  return {
    ...(spec.sealingKey ? { sealedToken: seal(spec.sealingKey, token, spec.clusterId) } : { token: Buffer.from(token).toString('base64') }),
    tokenExpirationTimestamp: expires,
    ...(spec.renewal && { renewal: spec.renewal }),
    ...(id && { credentialIDs: [id, ...before].slice(0, KEPT_IDS) }),
  };
}

/** Says that a readable token was written. */
export function reportPlain(request: ClusterRegistrationRequest, room: LeadingRoom): void {
  room.metrics.plainCredentials.inc();
  report(request, room, {
    type: 'Warning',
    reason: 'PlainCredentials',
    action: 'IssueToken',
    note: 'The agent brought no sealing key: its token stands readable in status.token. Whoever may get this request can take it.',
  });
}
