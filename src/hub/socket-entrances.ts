import type { IncomingMessage, RequestListener } from 'node:http';
import type { Duplex } from 'node:stream';
import { serviceUnavailable } from '../kube/status.ts';
import type { AuditRequests } from './audit/middleware.ts';
import { auditSubject } from './audit/subject.ts';
import type { Authenticate } from './auth/authenticate.ts';
import type { Authorizer } from './auth/authorizer.ts';
import type { LogRequest } from './request-log.ts';
import type { Admit } from './sockets/gate.ts';
import { isSocketPath } from './sockets/socket-path.ts';
import type { SocketRoom } from './sockets/socket-room.ts';

export type EntranceOptions = {
  sockets: SocketRoom;
  auditing: AuditRequests;
  authorizer: Pick<Authorizer, 'authorize'>;
  auditProblem: () => string | undefined;
  logRequest?: LogRequest | undefined;
};

/**
 * The doors of the sockets: audit, authentication and authorisation as in the chain of the other requests, without its framework, because here every request
 * pays for each step.
 */
export function socketEntrances({ sockets, auditing, authorizer, auditProblem, logRequest }: EntranceOptions) {
  const admit =
    (authenticate: Authenticate): Admit =>
    async (request, info) => {
      const subject = auditSubject(request);
      const caller = await authenticate(request);
      subject.user = caller.user;
      subject.viaFrontProxy = caller.via === 'frontProxy';
      subject.info = info;
      await authorizer.authorize(caller, info);
      // What cannot be recorded must not be done.
      if (info.verb !== 'get' && auditProblem())
        throw serviceUnavailable('the audit log cannot be written, so nothing is changed; try again later');
      return { user: caller.user, via: caller.via };
    };
  return {
    /** Answers requests for sockets and hands the others on. */
    requests(authenticate: Authenticate, others: RequestListener): RequestListener {
      const admitting = admit(authenticate);
      return (request, response) => {
        if (!isSocketPath(request.url)) {
          others(request, response);
          return;
        }
        if (logRequest) {
          const logged = logRequest(request);
          response.once('close', () => logged(response.headersSent ? response.statusCode : 0));
        }
        auditing.middleware(request, response, () => sockets.serve(admitting, request, response));
      };
    },
    upgrades(authenticate: Authenticate) {
      const admitting = admit(authenticate);
      return {
        wants: (request: IncomingMessage) => isSocketPath(request.url) && sockets.wantsUpgrade(request),
        take(request: IncomingMessage, socket: Duplex, head: Buffer) {
          if (logRequest) {
            const logged = logRequest(request);
            socket.once('close', () => logged(auditSubject(request).code ?? 0));
          }
          auditing.upgrade(request, socket);
          sockets.upgrade(admitting, request, socket, head);
        },
      };
    },
  };
}
