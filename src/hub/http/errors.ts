import { randomUUID } from 'node:crypto';
import { KubeError, KubeUnreachableError } from '../../kube/errors.ts';
import { internalError, StatusError, serviceUnavailable, timeout, tooManyRequests } from '../../kube/status.ts';

/** Answers of kube-apiserver that are about the caller's own request (selectors, versions, pages) and go through as they are. */
const PASSED = new Set([400, 406, 410, 413, 422]);

/**
 * Any error as what the caller is told. Errors of our own requests to kube-apiserver are ours, not the caller's: a 403 there is a missing right of the hub.
 * What nobody foresaw becomes 500 with an id, and `log` gets the id with the error.
 */
export function toStatusError(error: unknown, log: (id: string, error: unknown) => void): StatusError {
  if (error instanceof StatusError) return error;
  // What AbortSignal.timeout aborts with: the time for the request is over.
  if (error instanceof DOMException && error.name === 'TimeoutError') return timeout('the request took too long; try again');
  if (error instanceof KubeError) {
    if (PASSED.has(error.code)) {
      const passed = new StatusError(error.code, error.reason || 'BadRequest', error.message);
      return passed;
    }
    if (error.code === 429) return tooManyRequests('kube-apiserver is busy; try again', error.status.details?.retryAfterSeconds ?? 1);
    if (error.code === 504) return timeout('kube-apiserver did not answer in time; try again');
  }
  const id = randomUUID();
  log(id, error);
  if (error instanceof KubeUnreachableError)
    return serviceUnavailable(`kube-apiserver cannot be reached from the hub; try again (log id ${id})`);
  if (error instanceof KubeError && error.code >= 500) return serviceUnavailable(`kube-apiserver is in trouble; try again (log id ${id})`);
  return internalError(id);
}
