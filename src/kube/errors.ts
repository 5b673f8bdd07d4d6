import type { V1Status } from '@kubernetes/client-node';

/** A refusal by the Kubernetes API server. `code` is the HTTP status; `status` is what it answered, or a Status made from the code. */
export class KubeError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly status: V1Status;

  constructor(code: number, status: V1Status) {
    super(status.message ?? `the Kubernetes API server answered ${code}`);
    this.name = 'KubeError';
    this.code = code;
    this.reason = status.reason ?? '';
    this.status = status;
  }
}

/** No answer at all: connection refused, cut or timed out. `sent` is false when the request surely did not reach the server. */
export class KubeUnreachableError extends Error {
  readonly sent: boolean;

  constructor(message: string, sent: boolean, cause: unknown) {
    super(message, { cause });
    this.name = 'KubeUnreachableError';
    this.sent = sent;
  }
}

export const isNotFound = (error: unknown): boolean => error instanceof KubeError && error.code === 404;
/** Somebody else wrote first, or (on create) the object is there already. */
export const isConflict = (error: unknown): boolean => error instanceof KubeError && error.code === 409;
export const isExpired = (error: unknown): boolean => error instanceof KubeError && error.code === 410;
