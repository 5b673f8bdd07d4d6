import { createHash } from 'node:crypto';
import { forbidden, type StatusError, tooManyRequests } from '../../kube/status.ts';
import type { RequestInfo } from '../http/resource.ts';
import { answerCache } from './answer-cache.ts';
import type { Caller } from './caller.ts';
import { type ReviewOptions, reviewHealth, sendReview } from './review.ts';

/** Says whether a caller may do something. `verb` replaces the request's own, for rights beyond it such as `force`. */
export type Authorizer = {
  /** Throws StatusError 403 when not, 503 when it cannot be found out, 429 when too many reviews are on their way. */
  authorize(caller: Caller, info: RequestInfo, verb?: string): Promise<void>;
  /** As `authorize`, but answers false instead of 403. */
  allowed(caller: Caller, info: RequestInfo, verb?: string): Promise<boolean>;
  /** Why the last review failed; undefined when it went well no longer than `ttlMs` ago, or when a new one does. For readyz. */
  check(): Promise<string | undefined>;
  /** Answers kept. */
  readonly cached: number;
};

const REVIEW = {
  path: '/apis/authorization.k8s.io/v1/subjectaccessreviews',
  apiVersion: 'authorization.k8s.io/v1',
  kind: 'SubjectAccessReview',
};
const MASTERS = 'system:masters';

type Decision = { allowed: boolean; reason: string };

function readStatus(status: Record<string, unknown>): Decision | undefined {
  const { allowed, denied = false, reason = '' } = status;
  if (typeof allowed !== 'boolean' || typeof denied !== 'boolean' || typeof reason !== 'string') return undefined;
  return { allowed: allowed && !denied, reason };
}

function reviewSpec({ user }: Caller, info: RequestInfo, verb: string): object {
  const what =
    info.kind === 'resource'
      ? {
          resourceAttributes: {
            group: info.group,
            version: info.version,
            resource: info.resource,
            subresource: info.subresource,
            name: info.name,
            verb,
          },
        }
      : { nonResourceAttributes: { path: info.path, verb } };
  return { user: user.name, uid: user.uid, groups: user.groups, extra: user.extra, ...what };
}

/** Keeps text of the caller from looking like HTML, as kube-apiserver does. */
const plain = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** The refusal in kube-apiserver's words, which users and scripts know. */
function refusal({ user }: Caller, info: RequestInfo, verb: string, reason: string): StatusError {
  const because = reason === '' ? '' : `: ${reason}`;
  const who = `User ${JSON.stringify(user.name)} cannot ${verb}`;
  if (info.kind === 'nonResource') return forbidden({}, `forbidden: ${plain(`${who} path ${JSON.stringify(info.path)}`)}${because}`);
  const resource = info.subresource ? `${info.resource}/${info.subresource}` : info.resource;
  const text = `${who} resource "${resource}" in API group "${info.group}" at the cluster scope`;
  return forbidden({ group: info.group, kind: info.resource, ...(info.name && { name: info.name }) }, plain(text) + because);
}

/**
 * Asks kube-apiserver by SubjectAccessReview. Answers, allowed or not, count for `ttlMs` from when the review was sent.
 * Group system:masters is allowed without a review (Kubernetes' default for extension API servers), but only when the front proxy says so.
 */
export function authorizer(options: ReviewOptions): Authorizer {
  const now = options.now ?? (() => performance.now());
  const ttlMs = options.ttlMs ?? 10_000;
  const health = reviewHealth(now);
  const sending = { client: options.client, timeoutMs: options.timeoutMs ?? 4_500, health };
  const cache = answerCache<Decision>({
    ttlMs,
    capacity: options.capacity ?? 8_192,
    maxInFlight: options.maxInFlight ?? 256,
    overloaded: () => tooManyRequests('too many requests are being authorised; try again', 1),
    now,
  });

  async function decide(caller: Caller, info: RequestInfo, verb: string): Promise<Decision> {
    if (caller.via === 'frontProxy' && caller.user.groups.includes(MASTERS)) return { allowed: true, reason: '' };
    const spec = reviewSpec(caller, info, verb);
    // A digest, because groups and extra may take up to a megabyte of headers.
    const key = createHash('sha256').update(JSON.stringify(spec)).digest('base64');
    return cache.get(key, () => sendReview(sending, { ...REVIEW, spec }, readStatus));
  }

  return {
    async authorize(caller, info, verb = info.verb) {
      const decision = await decide(caller, info, verb);
      if (!decision.allowed) throw refusal(caller, info, verb, decision.reason);
    },
    async allowed(caller, info, verb = info.verb) {
      return (await decide(caller, info, verb)).allowed;
    },
    async check() {
      if (health.problem() === undefined && health.idleMs() < ttlMs) return undefined;
      const spec = { user: 'system:anonymous', nonResourceAttributes: { path: '/readyz', verb: 'get' } };
      await sendReview(sending, { ...REVIEW, spec }, readStatus).catch(() => undefined);
      return health.problem();
    },
    get cached() {
      return cache.size;
    },
  };
}
