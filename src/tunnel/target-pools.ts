import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Http2Stream } from 'node:http2';
import { type Duplex, Readable, type Writable } from 'node:stream';
import { type Dispatcher, Pool } from 'undici';
import { CALLER_PREFIX } from './caller.ts';
import { endedWhole } from './cut.ts';
import { endToEnd, headerValue } from './headers.ts';
import { TargetError } from './target-error.ts';
import type { Answer, Exchange, RawHeaders, RequestHead, UpgradeAnswer } from './upstream.ts';

/** Where the requests of one pool go. Requests that may not share a connection have different keys. */
export type Route = {
  key: string;
  /** For messages. */
  name: string;
  /** A new connection, with TLS where the target speaks it. Rejects with TargetError. */
  connect: () => Promise<Duplex>;
};

/** Kept-alive connections to targets. Heads must be end-to-end, with `host`, and with the credentials that the target is to see. */
export type TargetPools = {
  exchange(route: Route, head: RequestHead, body: { stream: Readable; trailers: () => RawHeaders } | undefined, answer: Answer): Exchange;
  upgrade(route: Route, head: RequestHead, protocol: string, answer: UpgradeAnswer): Exchange;
  /** Ends idle connections of routes whose key begins so, and lets the others end with their request. */
  forget(keyPrefix: string): void;
  close(): void;
};

/** Shorter than the 90 s after which Go's servers end idle connections. */
const IDLE_MS = 55_000;
/** A route that nobody has used for so long gives its pool up. */
const UNUSED_MS = 300_000;

export function targetPools(): TargetPools {
  const pools = new Map<string, { pool: Pool; used: number }>();

  function poolOf(route: Route): Pool {
    const now = performance.now();
    const known = pools.get(route.key);
    if (known) {
      known.used = now;
      return known.pool;
    }
    for (const [key, { pool, used }] of pools) if (now - used > UNUSED_MS) drop(key, pool);
    const pool = new Pool('http://target', {
      connections: null,
      pipelining: 1,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
      headersTimeout: 0,
      bodyTimeout: 0,
      maxHeaderSize: 1 << 20,
      // TLS is the route's affair, so that undici sees every connection as a plain one.
      connect: (_options, callback) => {
        route.connect().then(
          (socket) => callback(null, socket as never),
          (error: unknown) => callback(error as Error, null),
        );
      },
    });
    pools.set(route.key, { pool, used: now });
    return pool;
  }

  function drop(key: string, pool: Pool): void {
    pools.delete(key);
    // Requests in flight, watches among them, end in their own time.
    pool.close().catch(() => undefined);
  }

  function exchange(
    route: Route,
    head: RequestHead,
    body: { stream: Readable; trailers: () => RawHeaders } | undefined,
    answer: Answer,
  ): Exchange {
    if (body && headerValue(head.headers, 'trailer') !== undefined) return withTrailers(route, head, body, answer);
    return dispatch(route, head, body?.stream, answer, body === undefined && (head.method === 'GET' || head.method === 'HEAD'));
  }

  function dispatch(route: Route, head: RequestHead, body: Readable | undefined, answer: Answer, mayRepeat: boolean): Exchange {
    let control: Dispatcher.DispatchController | undefined;
    let sink: Writable | undefined;
    let over = false;
    let repeated: Exchange | undefined;
    const options = {
      path: head.path,
      method: head.method as Dispatcher.HttpMethod,
      headers: head.headers as string[],
      body: body ? detached(body) : null,
    };
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(controller) {
        control = controller;
        if (over) controller.abort(new Error('given up'));
      },
      onResponseStart(controller, code) {
        if (over || code < 200) return;
        sink = answer.head(code, answered(latin1(controller.rawHeaders)));
        sink.on('drain', () => controller.resume());
      },
      onResponseData(controller, chunk) {
        if (!over && sink && !sink.write(chunk)) controller.pause();
      },
      onResponseEnd(controller) {
        if (over || !sink) return;
        over = true;
        const trailers = latin1(controller.rawTrailers);
        if (trailers.length > 0) answer.trailers(endToEnd(trailers));
        sink.end();
      },
      onResponseError(_controller, error) {
        if (over) return;
        over = true;
        // The target may have ended a kept connection just when it was used again: nothing of an answer came, and asking again changes nothing.
        if (mayRepeat && !sink && isCut(error)) repeated = dispatch(route, head, undefined, answer, false);
        else
          answer.fail(
            sink ? new TargetError(502, `${route.name} ended the answer before it was whole`, { cause: error }) : explain(route, error),
          );
      },
    };
    const send = () => {
      if (over) {
        options.body?.destroy();
        return;
      }
      try {
        poolOf(route).dispatch(options, handler);
      } catch (error) {
        over = true;
        answer.fail(new TargetError(400, `the request cannot be sent to ${route.name}: ${messageOf(error)}`, { cause: error }));
      }
    };
    // undici waits for one immediate before it uses a kept connection again, so that an answer which nobody asked for is read as such. Called while input is
    // handled, that immediate comes before the next look at the sockets; the second one never does.
    setImmediate(send);
    return {
      abort() {
        repeated?.abort();
        if (over) return;
        over = true;
        control?.abort(new Error('given up'));
      },
    };
  }

  return {
    exchange,
    upgrade,
    forget(keyPrefix) {
      for (const [key, { pool }] of pools) if (key.startsWith(keyPrefix)) drop(key, pool);
    },
    close() {
      for (const { pool } of pools.values()) pool.destroy().catch(() => undefined);
      pools.clear();
    },
  };
}

/** A connection of its own for each: Node's client, because undici cannot send trailers, nor hand over a refused upgrade whole. */
function ownConnection(route: Route, answer: Answer, begin: (socket: Duplex, fail: (error: Error) => void) => void): Exchange {
  let over = false;
  let connection: Duplex | undefined;
  const fail = (error: Error) => {
    if (over) return;
    over = true;
    destroyLater(connection);
    answer.fail(explain(route, error));
  };
  route.connect().then(
    (socket) => {
      if (over) {
        socket.destroy();
        return;
      }
      connection = socket;
      try {
        begin(socket, fail);
      } catch (error) {
        fail(new TargetError(400, `the request cannot be sent to ${route.name}: ${messageOf(error)}`, { cause: error }));
      }
    },
    (error: unknown) => fail(error as Error),
  );
  return {
    abort() {
      over = true;
      destroyLater(connection);
    },
  };
}

/**
 * Never inside of an event of Node's client: TLS over a stream closes at once, the client frees its parser at the close and again when the event is over, and from then
 * on two connections of the process share one parser.
 */
function destroyLater(connection: Duplex | undefined): void {
  if (connection) setImmediate(() => connection.destroy());
}

function upgrade(route: Route, head: RequestHead, protocol: string, answer: UpgradeAnswer): Exchange {
  return ownConnection(route, answer, (socket, fail) => {
    // What follows is no body, and no target shall wait for one.
    const travelling = endToEnd(head.headers, (name) => name === 'content-length');
    const headers = [...travelling, 'connection', 'Upgrade', 'upgrade', protocol];
    const sent = httpRequest({ method: head.method, path: head.path, headers, createConnection: () => socket as never });
    sent.on('error', fail);
    sent.on('upgrade', (response, upgraded: Duplex, first: Buffer) => {
      if (first.length > 0) upgraded.unshift(first);
      answer.switched(answered(response.rawHeaders), upgraded);
    });
    // Not switched: the answer is passed on and the connection ends with it. Nothing more of the client's reaches the target.
    sent.on('response', (response) => forward(response, socket, answer, fail));
    sent.end();
  });
}

function withTrailers(route: Route, head: RequestHead, body: { stream: Readable; trailers: () => RawHeaders }, answer: Answer): Exchange {
  return ownConnection(route, answer, (socket, fail) => {
    const headers = [...head.headers, 'connection', 'close', 'transfer-encoding', 'chunked'];
    const sent = httpRequest({ method: head.method, path: head.path, headers, createConnection: () => socket as never });
    sent.on('error', fail);
    sent.on('response', (response) => forward(response, socket, answer, fail));
    body.stream.on('data', (chunk: Buffer) => {
      if (!sent.write(chunk)) body.stream.pause();
    });
    sent.on('drain', () => body.stream.resume());
    body.stream.once('error', fail);
    body.stream.once('end', () => {
      if (!isWhole(body.stream)) {
        fail(new Error('the request was cut'));
        return;
      }
      const raw = body.trailers();
      try {
        sent.addTrailers(Array.from({ length: raw.length / 2 }, (_, at): [string, string] => [raw[2 * at] ?? '', raw[2 * at + 1] ?? '']));
        sent.end();
      } catch (error) {
        fail(error as Error);
      }
    });
  });
}

/** Passes the answer of a connection of its own on; the connection ends with it. */
function forward(response: IncomingMessage, socket: Duplex, answer: Answer, fail: (error: Error) => void): void {
  const sink = answer.head(response.statusCode ?? 502, answered(response.rawHeaders));
  response.on('data', (chunk: Buffer) => {
    if (!sink.write(chunk)) response.pause();
  });
  sink.on('drain', () => response.resume());
  response.on('error', fail);
  response.on('aborted', () => fail(new Error('the answer was cut')));
  response.on('end', () => {
    if (!response.complete) return;
    if (response.rawTrailers.length > 0) answer.trailers(endToEnd(response.rawTrailers));
    sink.end();
    destroyLater(socket);
  });
}

/** The same bytes in a stream of its own: undici destroys a body when it is done with it, and this one may be half of a stream that still carries the answer. */
function detached(source: Readable): Readable {
  const body = new Readable({
    read: () => source.resume(),
    destroy(error, done) {
      source.off('data', onData).off('end', onEnd).off('error', onError);
      // What still comes is thrown away, so that the other direction is not blocked by it.
      source.resume();
      done(error);
    },
  });
  const onData = (chunk: Buffer) => {
    if (!body.push(chunk)) source.pause();
  };
  const onEnd = () => {
    if (isWhole(source)) body.push(null);
    else body.destroy(new Error('the request was cut'));
  };
  const onError = (error: Error) => body.destroy(error);
  source.on('data', onData).on('end', onEnd).on('error', onError);
  return body;
}

/** An HTTP/2 stream says 'end' after a reset too: half a body must not reach the target as a whole one. */
const isWhole = (source: Readable) => !('rstCode' in source) || endedWhole(source as unknown as Http2Stream);

function latin1(raw: Dispatcher.DispatchController['rawHeaders']): string[] {
  return Array.isArray(raw) ? raw.map((part) => (typeof part === 'string' ? part : part.toString('latin1'))) : [];
}

/** What hub and agent say to each other in an answer is not for targets to say. */
const answered = (raw: RawHeaders) => endToEnd(raw, (name) => name.startsWith(CALLER_PREFIX));

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
const codeOf = (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : '');
const isCut = (error: Error) => ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(codeOf(error)) && !(error instanceof TargetError);

/** What went wrong with a target, in words that name it. */
function explain(route: Route, error: Error): TargetError {
  if (error instanceof TargetError) return error;
  return new TargetError(502, `the connection to ${route.name} broke: ${messageOf(error)}`, { cause: error });
}
