import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { AuditSubject } from './subject.ts';

/** One line of the audit log: an Event of audit.k8s.io/v1 (https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/) at level Metadata. */
export type AuditEntry = {
  kind: 'Event';
  apiVersion: 'audit.k8s.io/v1';
  level: 'Metadata';
  auditID: string;
  stage: 'ResponseComplete';
  requestURI: string;
  verb: string;
  user: { username?: string; uid?: string; groups?: string[] };
  sourceIPs: string[];
  userAgent?: string;
  objectRef?: { resource: string; subresource?: string; name?: string; apiGroup?: string; apiVersion?: string };
  /** 0: the connection ended before an answer began. */
  responseStatus: { code: number };
  /** RFC 3339 in UTC with microseconds. */
  requestReceivedTimestamp: string;
  stageTimestamp: string;
  annotations?: Record<string, string>;
};

const MAX_URI = 8_192;
const MAX_TEXT = 1_024;
const MAX_GROUPS = 256;
const MAX_ANNOTATIONS = 64;

function bounded(text: string, limit = MAX_TEXT): string {
  return text.length <= limit ? text : `${text.slice(0, limit)}...(${text.length - limit} more)`;
}

/** A request may name a whole URL, and that may hold a password. */
const withoutUserinfo = (uri: string) => uri.replace(/^([a-z][a-z0-9+.-]*:)?\/\/[^/?#]*@/i, '$1//');
const microTime = (date: Date) => date.toISOString().replace('Z', '000Z');

/** What is taken from the request itself. `peer`: the address at the other end of the connection. */
export type AuditedRequest = { method: string; url: string; headers: IncomingMessage['headers']; peer: string | undefined };

/** The peer, and before it whom the front proxy saw. Of X-Forwarded-For only the last address is the proxy's own word; clients write the others. */
function sourceIPs({ headers, peer }: AuditedRequest, viaFrontProxy: boolean): string[] {
  const header = viaFrontProxy ? headers['x-forwarded-for'] : undefined;
  const last = (Array.isArray(header) ? header.join(',') : (header ?? '')).split(',').at(-1)?.trim() ?? '';
  return [...(isIP(last) ? [last] : []), ...(peer ? [peer.replace(/^::ffff:(?=\d+\.)/, '')] : [])];
}

/**
 * The line of one request. Of the headers only the user agent (and, from the front proxy, the client's address) goes in; no body, and no user extras,
 * for those can be credentials. URI, names and lists are bounded.
 */
export function auditEntry(
  request: AuditedRequest,
  subject: AuditSubject,
  { code, received, ended }: { code: number; received: Date; ended: Date },
): AuditEntry {
  const { info, user, annotations } = subject;
  const userAgent = request.headers['user-agent'];
  const kept = Object.entries(annotations ?? {}).slice(0, MAX_ANNOTATIONS);
  return {
    kind: 'Event',
    apiVersion: 'audit.k8s.io/v1',
    level: 'Metadata',
    auditID: bounded(subject.auditID),
    stage: 'ResponseComplete',
    requestURI: bounded(withoutUserinfo(request.url), MAX_URI),
    verb: info?.verb ?? request.method.toLowerCase(),
    user: user
      ? {
          username: bounded(user.name),
          ...(user.uid && { uid: bounded(user.uid) }),
          groups: user.groups.slice(0, MAX_GROUPS).map((group) => bounded(group)),
        }
      : {},
    sourceIPs: sourceIPs(request, subject.viaFrontProxy === true),
    ...(userAgent !== undefined && { userAgent: bounded(userAgent) }),
    ...(info?.kind === 'resource' && {
      objectRef: {
        resource: bounded(info.resource),
        ...(info.subresource && { subresource: bounded(info.subresource) }),
        ...(info.name && { name: bounded(info.name) }),
        ...(info.group && { apiGroup: info.group }),
        apiVersion: info.version,
      },
    }),
    responseStatus: { code },
    requestReceivedTimestamp: microTime(received),
    stageTimestamp: microTime(ended),
    ...(kept.length > 0 && { annotations: Object.fromEntries(kept.map(([name, value]) => [bounded(name), bounded(value)])) }),
  };
}
