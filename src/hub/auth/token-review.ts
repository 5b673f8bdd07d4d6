import { createHash } from 'node:crypto';
import { tooManyRequests } from '../../kube/status.ts';
import { answerCache } from './answer-cache.ts';
import { isObject, isStringList, type ReviewOptions, reviewHealth, sendReview } from './review.ts';
import type { UserInfo } from './user.ts';

/** Says whose a bearer token is. */
export type TokenReviewer = {
  /** undefined: nobody's. Throws StatusError 503 when it cannot be found out, 429 when too many reviews are on their way. */
  review(token: string): Promise<UserInfo | undefined>;
  /** Why the last review failed; undefined when it went well, or when a new one (of a token that is nobody's) does. For readyz. */
  check(): Promise<string | undefined>;
  /** Answers kept. */
  readonly cached: number;
};

const REVIEW = { path: '/apis/authentication.k8s.io/v1/tokenreviews', apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview' };

function readUser(user: unknown): UserInfo | undefined {
  if (!isObject(user)) return undefined;
  const { username, uid = '', groups = [], extra = {} } = user;
  if (typeof username !== 'string' || username === '' || typeof uid !== 'string' || !isStringList(groups) || !isObject(extra))
    return undefined;
  const entries = Object.entries(extra).filter((entry): entry is [string, string[]] => isStringList(entry[1]));
  if (entries.length !== Object.keys(extra).length) return undefined;
  return { name: username, uid, groups, extra: Object.fromEntries(entries) };
}

function readStatus(status: Record<string, unknown>): { user?: UserInfo } | undefined {
  if (status['authenticated'] === true) {
    const user = readUser(status['user']);
    return user && { user };
  }
  // kube-apiserver leaves out `authenticated` when it is false.
  return status['authenticated'] === false || status['authenticated'] === undefined ? {} : undefined;
}

/** A reviewer with a cache of its own, keyed by the token's SHA-256; tokens themselves are not kept. Audiences are kube-apiserver's own. */
export function tokenReviewer(options: ReviewOptions): TokenReviewer {
  const now = options.now ?? (() => performance.now());
  const health = reviewHealth(now);
  const sending = { client: options.client, timeoutMs: options.timeoutMs ?? 4_500, health };
  const cache = answerCache<{ user?: UserInfo }>({
    ttlMs: options.ttlMs ?? 10_000,
    capacity: options.capacity ?? 8_192,
    maxInFlight: options.maxInFlight ?? 256,
    overloaded: () => tooManyRequests('too many bearer tokens are being checked; try again', 1),
    now,
    // A flood of invented tokens must not push out those that are in use.
    shelf: (answer) => (answer.user ? 'known' : 'unknown'),
  });
  const ask = (token: string) => sendReview(sending, { ...REVIEW, spec: { token } }, readStatus);

  return {
    async review(token) {
      const key = createHash('sha256').update(token).digest('base64');
      return (await cache.get(key, () => ask(token))).user;
    },
    async check() {
      if (health.problem() === undefined) return undefined;
      await ask('fairlead-readiness').catch(() => undefined);
      return health.problem();
    },
    get cached() {
      return cache.size;
    },
  };
}
