import type { KubeClient } from '../../kube/client.ts';
import { serviceUnavailable } from '../../kube/status.ts';

/** Settings that both kinds of review share. */
export type ReviewOptions = {
  client: KubeClient;
  /**
   * Milliseconds that kube-apiserver may take. Default 4,500: a request can need a TokenReview and a SubjectAccessReview,
   * and must be refused within 10 s when neither is answered.
   */
  timeoutMs?: number;
  /** Milliseconds that an answer is kept. Default 10,000, as Kubernetes' own extension API servers. */
  ttlMs?: number;
  /** Answers kept. Default 8,192. */
  capacity?: number;
  /** Reviews on their way at the same time. Default 256. */
  maxInFlight?: number;
  /** Milliseconds, monotonic. Default performance.now. */
  now?: () => number;
};

/** Whether reviews work, for readyz. */
export type ReviewHealth = {
  succeeded(): void;
  failed(problem: string): void;
  /** The last failure, unless a review has succeeded since. */
  problem(): string | undefined;
  /** Milliseconds since the last success; Infinity before the first. */
  idleMs(): number;
};

export function reviewHealth(now: () => number): ReviewHealth {
  let problem: string | undefined;
  let success = Number.NEGATIVE_INFINITY;
  return {
    succeeded() {
      problem = undefined;
      success = now();
    },
    failed(text) {
      problem = text;
    },
    problem: () => problem,
    idleMs: () => now() - success,
  };
}

/**
 * Sends a review and returns the `status` that `read` accepts. Every failure (refused, unreachable, slow, not what was asked for) is
 * StatusError 503: the caller is neither allowed nor told that it is forbidden.
 */
export async function sendReview<T>(
  options: { client: KubeClient; timeoutMs: number; health: ReviewHealth },
  review: { path: string; apiVersion: string; kind: string; spec: object },
  read: (status: Record<string, unknown>) => T | undefined,
): Promise<T> {
  const { client, health, timeoutMs } = options;
  const { path, apiVersion, kind, spec } = review;
  const deadline = new AbortController();
  const late = new Error(`no answer within ${timeoutMs} ms`);
  const expired = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    expired.reject(late);
    deadline.abort(late);
  }, timeoutMs);
  try {
    const request = client.request<unknown>({ method: 'POST', path, body: { apiVersion, kind, spec }, signal: deadline.signal, timeoutMs });
    // The race also ends a client that hangs before it sends (an exec plugin for credentials).
    const answer = await Promise.race([request, expired.promise]);
    const status = isObject(answer) && answer['kind'] === kind && isObject(answer['status']) ? read(answer['status']) : undefined;
    if (status === undefined) throw new Error(`the answer is not a ${kind}`);
    health.succeeded();
    return status;
  } catch (error) {
    health.failed(`${kind}: ${error instanceof Error ? error.message : String(error)}`);
    throw serviceUnavailable(`the request could not be checked: ${kind} failed; try again`);
  } finally {
    clearTimeout(timer);
  }
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
export const isStringList = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string');
