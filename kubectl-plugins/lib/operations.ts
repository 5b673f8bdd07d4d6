import { randomUUID } from 'node:crypto';
import type { Action, NodeOperation, RestartOptions } from '../../src/hub/nodes/schema.ts';
import { KubeError, KubeUnreachableError } from '../../src/kube/errors.ts';
import { API, type Api } from './api.ts';
import { pause } from './pause.ts';

/** Body of restart, stop and start; stop and start take a part of the fields. */
export type ActionOptions = Omit<RestartOptions, 'apiVersion' | 'kind' | 'metadata' | 'requestID'>;

const FINAL: readonly string[] = ['Succeeded', 'Failed', 'Cancelled'];
export const isFinal = (operation: NodeOperation): boolean => FINAL.includes(operation.status?.phase ?? '');
export const nameOf = (operation: NodeOperation): string => operation.metadata?.name ?? '';

/** How long a request whose answer was lost is asked again. */
const AGAIN_MS = 30_000;
const PASSING = new Set([429, 500, 502, 503, 504]);

/**
 * Asks for one operation and returns what the hub made of it. The request carries an id, so that when the answer is lost the same request is
 * sent again and finds the operation that is there already, never a second one. Throws KubeError (409 when a guard refuses), or the last
 * KubeUnreachableError after 30 s. `again` is told why a request is repeated.
 */
export async function requestOperation(
  api: Api,
  action: Action,
  node: string,
  options: ActionOptions,
  limits: { signal: AbortSignal; again: (why: string) => void; requestID?: string },
): Promise<NodeOperation> {
  const requestID = limits.requestID ?? randomUUID();
  const giveUpAt = performance.now() + AGAIN_MS;
  for (let delay = 250; ; delay = Math.min(delay * 2, 5_000)) {
    try {
      const { body } = await api.ask<NodeOperation>({
        method: 'POST',
        path: `${API}/nodes/${encodeURIComponent(node)}/${action.toLowerCase()}`,
        // A hub that does not know a field must not act without it.
        query: { fieldValidation: 'Strict' },
        body: { apiVersion: 'infraops.michael.io/v1', kind: `${action}Options`, ...options, requestID },
        signal: limits.signal,
      });
      if (options.dryRun && !body.spec?.dryRun?.length) {
        throw new Error(`the hub did not heed the dry run: stop it with kubectl infra cancel ${nameOf(body)}`);
      }
      return body;
    } catch (error) {
      limits.signal.throwIfAborted();
      if (!passing(error) || performance.now() + delay > giveUpAt) throw error;
      limits.again(error instanceof Error ? error.message : String(error));
      await pause(delay, limits.signal);
    }
  }
}

/** Whether the same request may succeed a moment later. A certificate that is wrong stays wrong. */
export function passing(error: unknown): boolean {
  if (error instanceof KubeError) return PASSING.has(error.code);
  return error instanceof KubeUnreachableError && !isCertificateError(error);
}

function isCertificateError(error: KubeUnreachableError): boolean {
  const cause = error.cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  return (
    /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|ERR_SSL|ENOTFOUND/.test(code) ||
    (cause instanceof Error && /^(proxy|SOCKS proxy) /.test(cause.message))
  );
}
