import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { UserInfo } from '../auth/user.ts';
import type { RequestInfo } from '../http/resource.ts';

/** What the request path learns about a request, for its audit line. Filled in as it becomes known. */
export type AuditSubject = {
  /** kube-apiserver's Audit-ID when one came along, else one of our own. */
  auditID: string;
  info?: RequestInfo;
  user?: UserInfo;
  annotations?: Record<string, string>;
  /** True when the connection is the front proxy's: only then X-Forwarded-For is believed. */
  viaFrontProxy?: boolean;
  /** The status that was written by hand on a connection taken over (101 after an upgrade). */
  code?: number;
};

/** kube-apiserver takes no longer ones. */
const AUDIT_ID = /^[A-Za-z0-9-]{1,64}$/;
const subjects = new WeakMap<IncomingMessage, AuditSubject>();

/** The subject of this request, made at the first call. An Audit-ID header of another form than kube-apiserver's is replaced. */
export function auditSubject(request: IncomingMessage): AuditSubject {
  let subject = subjects.get(request);
  if (!subject) {
    const given = request.headers['audit-id'];
    subject = { auditID: typeof given === 'string' && AUDIT_ID.test(given) ? given : randomUUID() };
    subjects.set(request, subject);
  }
  return subject;
}
