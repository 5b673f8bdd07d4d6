import type { IncomingMessage } from 'node:http';
import type { Logger } from 'pino';
import { auditSubject } from './audit/subject.ts';

/** Called when a request begins; the result when it has ended, with its status (0: cut before an answer). */
export type LogRequest = (request: IncomingMessage) => (code: number) => void;

const HEALTH = /^\/(healthz|livez|readyz)(\/|$)/;
/** Characters of a path; targets may have longer ones. */
const MAX_PATH = 1_024;

/**
 * One line of the log for each request, at its end: what, by whom, status, milliseconds. Never a header, a body or a query, which may hold secrets. Health probes only at the level
 * trace. undefined when that is not wanted, so that a request pays nothing.
 */
export function requestLog(log: Logger): LogRequest | undefined {
  if (!log.isLevelEnabled('debug')) return undefined;
  return (request) => {
    const began = performance.now();
    const { method = '', url = '' } = request;
    const [path = ''] = url.split('?', 1);
    const level = HEALTH.test(path) ? 'trace' : 'debug';
    return (code) => {
      const { auditID, user } = auditSubject(request);
      const ms = Math.round((performance.now() - began) * 10) / 10;
      log[level]({ method, path: path.slice(0, MAX_PATH), ...(user && { user: user.name }), code, ms, auditID }, 'request');
    };
  };
}
