/**
 * Why a target was not reached or an answer did not come. `code` is the HTTP status for the caller: 400 the target makes no sense, 403 the agent does not allow
 * it, 502 refused or broken, 503 the tunnel is gone, 504 no answer in time. The message names the target; it never holds a credential.
 */
export class TargetError extends Error {
  readonly code: 400 | 403 | 429 | 502 | 503 | 504;

  constructor(code: TargetError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TargetError';
    this.code = code;
  }
}

const REASONS: Record<TargetError['code'], string> = {
  400: 'BadRequest',
  403: 'Forbidden',
  429: 'TooManyRequests',
  502: 'BadGateway',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

/** A Kubernetes Status with a newline, for the end that has nothing else to make one with. */
export function targetStatus({ code, message }: TargetError): string {
  return `${JSON.stringify({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason: REASONS[code], code })}\n`;
}
