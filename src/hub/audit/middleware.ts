import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { type AuditEntry, auditEntry } from './entry.ts';
import { isRoutine } from './routine.ts';
import { auditSubject } from './subject.ts';

export type AuditRequestsOptions = {
  write: (entry: AuditEntry) => void;
  /** What is left out; asked when the request has ended. Code 0: the connection ended before an answer began. Default isRoutine. */
  leaveOut?: (method: string, uri: string, code: number) => boolean;
};

export type AuditRequests = {
  /** The first step of the request path. Writes one line when the answer is out, or its connection has ended. */
  middleware: (request: IncomingMessage, response: ServerResponse, next: () => void) => void;
  /** For the server's `upgrade` event. Writes one line when the connection has ended; whoever answers sets `auditSubject(request).code`. */
  upgrade: (request: IncomingMessage, socket: Duplex) => void;
};

/** An annotation of a line: how a request ended whose answer did not get out whole, `before-answer` or `during-answer`. */
export const CUT_OFF = 'infraops.michael.io/cut-off';

type Ending = { code: number; cutOff?: 'before-answer' | 'during-answer' };

/**
 * Watches requests and hands one entry for each to `write`, with what auditSubject(request) holds by then. The code is the answer's; 0 when the
 * connection ended before an answer began.
 */
export function auditRequests({ write, leaveOut = isRoutine }: AuditRequestsOptions): AuditRequests {
  /** The result writes the line, at its first call. Address and URI are taken now: at the end they are gone, or were changed on the way. */
  function begin(request: IncomingMessage): (ending: Ending) => void {
    const received = new Date();
    const subject = auditSubject(request);
    const { method = '', url = '', headers } = request;
    const peer = request.socket.remoteAddress;
    let written = false;
    return ({ code, cutOff }) => {
      if (written) return;
      written = true;
      if (leaveOut(method, url, code)) return;
      const annotations = { ...(cutOff && { [CUT_OFF]: cutOff }), ...subject.annotations };
      write(auditEntry({ method, url, headers, peer }, { ...subject, annotations }, { code, received, ended: new Date() }));
    };
  }

  // One listener for a connection, however many requests a client sends through it without waiting.
  const open = new WeakMap<Duplex, Set<() => void>>();
  function endsOf(socket: Duplex): Set<() => void> {
    let ends = open.get(socket);
    if (!ends) {
      const made = new Set<() => void>();
      socket.once('close', () => {
        for (const end of made) end();
      });
      open.set(socket, made);
      ends = made;
    }
    return ends;
  }

  return {
    middleware(request, response, next) {
      const tell = begin(request);
      const ends = endsOf(request.socket);
      const end = () => {
        response.off('finish', end).off('close', end);
        ends.delete(end);
        const byHand = auditSubject(request).code;
        if (byHand !== undefined) tell({ code: byHand });
        else if (!response.headersSent) tell({ code: 0, cutOff: 'before-answer' });
        else tell({ code: response.statusCode, ...(!response.writableFinished && { cutOff: 'during-answer' }) });
      };
      // A response whose connection was taken over has no end of its own any more; the connection has.
      response.on('finish', end).on('close', end);
      ends.add(end);
      next();
    },
    upgrade(request, socket) {
      const tell = begin(request);
      socket.once('close', () => {
        const { code } = auditSubject(request);
        tell(code === undefined ? { code: 0, cutOff: 'before-answer' } : { code });
      });
    },
  };
}
