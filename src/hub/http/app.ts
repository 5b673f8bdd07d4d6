import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import express, { type NextFunction } from 'express';
import { pathNotFound, serviceUnavailable } from '../../kube/status.ts';
import type { Caller } from '../auth/caller.ts';
import type { UserInfo } from '../auth/user.ts';
import { readBody } from './body.ts';
import { toStatusError } from './errors.ts';
import type { InFlightLimits } from './in-flight.ts';
import { inFlightLimiter } from './in-flight.ts';
import type { HttpMetrics } from './metrics.ts';
import { authorisedName, parseTarget, requestInfo, type Target } from './request-info.ts';
import type { RequestContext, RequestInfo } from './resource.ts';
import { negotiateReply, respond, respondError } from './respond.ts';
import type { Routes } from './routes.ts';
import { cutSlowReader } from './slow-reader.ts';
import { warningHeader } from './warning.ts';

/** A step that answers from memory or hands on. */
type Step = (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void;

export type AppOptions = {
  routes: Routes;
  /** Health paths; true when it has answered. */
  health: (request: IncomingMessage, response: ServerResponse) => boolean;
  /** Discovery, OpenAPI and version: for everybody who is known. */
  documents: Step[];
  authenticate: (request: IncomingMessage) => Promise<Caller>;
  authorizer: {
    authorize(caller: Caller, info: RequestInfo, verb?: string): Promise<void>;
    allowed(caller: Caller, info: RequestInfo, verb?: string): Promise<boolean>;
  };
  metrics: HttpMetrics;
  /** Writes one line for each request; runs before everything else. */
  audit: Step;
  /** What the audit log will say of a request: its id, and places for what becomes known. */
  subject: (request: IncomingMessage) => {
    readonly auditID: string;
    info?: RequestInfo;
    user?: UserInfo;
    viaFrontProxy?: boolean;
    annotations?: Record<string, string>;
  };
  /** Why the audit log cannot be written: then nothing may be changed. */
  auditProblem: () => string | undefined;
  limits: InFlightLimits;
  /**
   * How long a request without a stream may take, in milliseconds, and how long after that the client may take to read the answer. A stream has no end, but
   * its client may not take longer than twice that to read what was sent.
   */
  requestTimeoutMs: number;
  /** Aborted when open streams have to end. */
  closing: AbortSignal;
  log: (id: string, error: unknown) => void;
  /** Called when a request begins; the result with its status when it has ended. */
  logRequest?: ((request: IncomingMessage) => (code: number) => void) | undefined;
};

/** What the steps learn of one request. */
type State = { target: Target; auditID: string; info?: RequestInfo; caller?: Caller };

/**
 * The chain that every request goes through, in kube-apiserver's order: audit, health, who calls, discovery, may they, what they want. Each step is a
 * middleware; everything that throws ends as a Status.
 */
export function hubApp(options: AppOptions): RequestListener {
  const { routes, metrics, authorizer } = options;
  const states = new WeakMap<IncomingMessage, State>();
  const limiter = inFlightLimiter(options.limits);
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', false);

  const state = (request: IncomingMessage): State => {
    const known = states.get(request);
    if (!known) throw new Error('the request has not been through the first step');
    return known;
  };
  const callerOf = (request: IncomingMessage): Caller => {
    const { caller } = state(request);
    if (!caller) throw new Error('the request has not been authenticated');
    return caller;
  };

  /** Says which methods the path takes, as 405 has to (RFC 9110, 15.5.6), unless whoever refused has said it. */
  function allow(request: IncomingMessage, response: ServerResponse): void {
    const { target, info } = state(request);
    // The method that was refused may be one that has no meaning; the path is good, or it would have been refused for that.
    const asked = info ?? requestInfo('GET', target);
    const methods = asked.kind === 'resource' ? routes.methods(asked) : [];
    if (methods.length > 0 && !response.hasHeader('allow')) response.setHeader('allow', methods.join(', '));
  }

  app.use(options.audit);

  app.use((request: IncomingMessage, response: ServerResponse, next: NextFunction) => {
    const { auditID } = options.subject(request);
    const known: State = { target: parseTarget(request.url ?? '/'), auditID };
    states.set(request, known);
    response.setHeader('audit-id', auditID);
    const finish = metrics.begin();
    const logged = options.logRequest?.(request);
    response.once('close', () => {
      const code = response.headersSent ? response.statusCode : 0;
      finish(known.info, code);
      logged?.(code);
    });
    next();
  });

  app.use((request: IncomingMessage, response: ServerResponse, next: NextFunction) => {
    if (!options.health(request, response)) next();
  });

  app.use(async (request: IncomingMessage, response: ServerResponse, next: NextFunction) => {
    const known = state(request);
    known.caller = await options.authenticate(request);
    // kube-apiserver answers the id that it sent by itself and passes on our headers too: the client would get it twice.
    if (known.caller.via === 'frontProxy' && request.headers['audit-id'] === known.auditID) response.removeHeader('audit-id');
    const subject = options.subject(request);
    subject.user = known.caller.user;
    subject.viaFrontProxy = known.caller.via === 'frontProxy';
    known.info = requestInfo(request.method ?? 'GET', known.target);
    subject.info = known.info;
    next();
  });

  for (const document of options.documents) app.use(document);

  app.use(async (request: IncomingMessage, _response: ServerResponse, next: NextFunction) => {
    const { info, target } = state(request);
    if (!info) throw pathNotFound();
    await authorizer.authorize(callerOf(request), authorisedName(info, target.query));
    next();
  });

  app.use(async (request: IncomingMessage, response: ServerResponse, next: NextFunction) => {
    const { path } = state(request).target;
    if (path !== '/metrics' || (request.method !== 'GET' && request.method !== 'HEAD')) return next();
    await metrics.handler(request, response);
  });

  app.use(async (request: IncomingMessage, response: ServerResponse) => {
    const { info, target, auditID } = state(request);
    if (info?.kind !== 'resource') throw pathNotFound();
    const route = routes.find(info);
    const caller = callerOf(request);
    // The audit line comes first: what cannot be recorded must not be done.
    if (route.recorded && options.auditProblem())
      throw serviceUnavailable('the audit log cannot be written, so nothing is changed; try again later');
    const wanted = route.longRunning || route.negotiates ? { mediaType: 'application/json' } : negotiateReply(request, info);
    // Nobody waits any more, and its close, which would give the place back, has been. Nothing may be awaited from here to the listener of that close.
    if (response.destroyed) return;
    const leave = limiter.enter(caller.user.name, route.longRunning);
    const gone = new AbortController();
    response.once('close', () => {
      leave();
      gone.abort(new Error('the client has gone'));
    });
    const deadline = route.longRunning ? options.closing : AbortSignal.timeout(options.requestTimeoutMs);
    // A client that does not read its answer would keep its place, and the answer in memory, for ever.
    if (route.longRunning) cutSlowReader(response, 2 * options.requestTimeoutMs);
    else {
      const cut = setTimeout(() => response.destroy(), 2 * options.requestTimeoutMs);
      response.once('close', () => clearTimeout(cut));
    }
    const context: RequestContext = {
      info,
      user: caller.user,
      query: target.query,
      headers: request.headers,
      auditID,
      signal: AbortSignal.any([gone.signal, deadline]),
      body: (how) => readBody(request, { ...how, signal: gone.signal }),
      warn: (text) => response.appendHeader('warning', warningHeader(text)),
      annotate: (name, value) => {
        const subject = options.subject(request);
        subject.annotations = { ...subject.annotations, [name]: value };
      },
      allowed: (verb) => authorizer.allowed(caller, info, verb),
    };
    const reply = await route.handler(context);
    await respond(request, response, reply, wanted, { query: target.query, columns: route.columns });
  });

  app.use((error: unknown, request: IncomingMessage, response: ServerResponse, _next: NextFunction) => {
    if (response.destroyed && !response.writableFinished && request.destroyed) return;
    const told = toStatusError(error, options.log);
    if (told.status.code === 405) allow(request, response);
    respondError(request, response, told);
  });

  return app as unknown as RequestListener;
}
