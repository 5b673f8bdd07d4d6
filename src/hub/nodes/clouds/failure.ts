import type { CloudErrorKind } from './cloud.ts';
import { CloudError } from './cloud.ts';
import type { Flight } from './flight.ts';
import { TransportError } from './flight.ts';

/** What a cloud answered instead of success. `status` is the HTTP status; `code` is '' when the answer had no readable code. */
export type Refusal = { code: string; message: string; status: number; requestID: string | undefined; retryAfter: string | undefined };

/** Seconds to wait when a cloud throttles without saying for how long. */
const DEFAULT_RETRY_AFTER = 5;

/** A cloud's codes by kind: each entry is a whole code, or a prefix when it ends with `*`. The first kind that has the code wins. */
export type CodeTable = readonly (readonly [CloudErrorKind, readonly string[]])[];

/** The kind of a code, undefined when the table does not know it. */
export function kindOf(code: string, table: CodeTable): CloudErrorKind | undefined {
  for (const [kind, patterns] of table) {
    if (patterns.some((p) => (p.endsWith('*') ? code.startsWith(p.slice(0, -1)) : code === p))) return kind;
  }
  return undefined;
}

/**
 * Turns a cloud's refusal into a CloudError. Only codes in `table` are definite; an unknown 4xx is Invalid, anything else is Transient and, for a
 * request with a side effect, may have happened.
 */
export function refusalError(what: string, refusal: Refusal, table: CodeTable, flight: Flight): CloudError {
  const known = kindOf(refusal.code, table);
  const definite4xx = refusal.status >= 400 && refusal.status < 500 && refusal.status !== 408;
  const kind =
    known ??
    (refusal.status === 429 ? 'Throttled' : definite4xx || (refusal.status >= 300 && refusal.status < 400) ? 'Invalid' : 'Transient');
  const code = refusal.code || `HTTP${refusal.status}`;
  const text = redact(refusal.message);
  return new CloudError(kind, code, `${what}: ${code}${text ? `: ${text}` : ''}`, {
    mayHaveHappened: flight.sent && flight.beforeSend !== undefined && kind === 'Transient' && !NO_CAPACITY.test(refusal.code),
    ...(kind === 'Throttled' && { retryAfterSeconds: retryAfterSeconds(refusal.retryAfter) }),
    ...(refusal.requestID !== undefined && { requestID: redact(refusal.requestID) }),
  });
}

/** No capacity: worth another try later, and certainly nothing was done. */
const NO_CAPACITY = /^(?:Insufficient\w*Capacity|ResourceInsufficient|OperationDenied\.NoStock)/;

function retryAfterSeconds(header: string | undefined): number {
  const seconds = Number(header);
  if (header === undefined || header === '' || !Number.isFinite(seconds) || seconds < 0) return DEFAULT_RETRY_AFTER;
  return Math.min(Math.ceil(seconds), 300);
}

/** A connection that failed, or an answer that could not be read. */
export function lostError(what: string, error: unknown, flight: Flight): CloudError {
  const code = flight.failure || (error instanceof TransportError ? error.code : 'UnreadableAnswer');
  const detail = flight.sent ? 'the answer was lost or unreadable' : 'no connection to the cloud';
  return new CloudError('Transient', code, `${what}: ${detail} (${code})`, {
    mayHaveHappened: flight.sent && flight.beforeSend !== undefined,
  });
}

/** No usable credentials: nothing was sent. The provider's own text is left out because it can quote files. */
export function credentialsError(what: string, hint: string): CloudError {
  return new CloudError('Forbidden', 'NoCredentials', `${what}: no usable credentials: ${hint}`);
}

/**
 * Text of a cloud made safe to show: one line, at most 300 characters, without anything that looks like a key id, a token, a signature or an
 * encoded authorisation message.
 */
export function redact(text: string): string {
  return text
    .slice(0, 4000)
    .replace(/\p{Cc}+/gu, ' ')
    .replace(/\b(?:AKIA|ASIA|AKID|LTAI|STS\.|eyJ)[A-Za-z0-9_./+=-]{4,}/g, '[redacted]')
    .replace(/[A-Za-z0-9+/=_]{24,}/g, (run) => (/\d/.test(run) ? '[redacted]' : run))
    .slice(0, 300)
    .trim();
}
