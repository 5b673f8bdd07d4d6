import { Readable } from 'node:stream';
import { type Dispatcher, Pool } from 'undici';
import { type Gathering, gather } from './gather.ts';
import { endToEnd, headerValue } from './headers.ts';
import { exchangeWithTrailers, upgradeConnection } from './target-connection.ts';
import { TargetError } from './target-error.ts';
import { answered, explain, isCut, isWhole, messageOf, type Route } from './target-route.ts';
import type { Answer, Exchange, RawHeaders, RequestHead, UpgradeAnswer } from './upstream.ts';

/** Kept-alive connections to targets. Heads must be end-to-end, with `host`, and with the credentials that the target is to see. */
export type TargetPools = {
  exchange(route: Route, head: RequestHead, body: { stream: Readable; trailers: () => RawHeaders } | undefined, answer: Answer): Exchange;
  upgrade(route: Route, head: RequestHead, protocol: string, answer: UpgradeAnswer): Exchange;
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
    if (body && headerValue(head.headers, 'trailer') !== undefined) return exchangeWithTrailers(route, head, body, answer);
    return dispatch(route, head, body?.stream, answer, body === undefined && (head.method === 'GET' || head.method === 'HEAD'));
  }

  function dispatch(route: Route, head: RequestHead, body: Readable | undefined, answer: Answer, mayRepeat: boolean): Exchange {
    let control: Dispatcher.DispatchController | undefined;
    let sink: Gathering | undefined;
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
        const to = answer.head(code, answered(latin1(controller.rawHeaders)));
        to.on('drain', () => controller.resume());
        sink = gather(to);
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
    upgrade: upgradeConnection,
    close() {
      for (const { pool } of pools.values()) pool.destroy().catch(() => undefined);
      pools.clear();
    },
  };
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
  // Until undici has the body nobody else listens, and a request that is given up in that moment would end the process.
  body.on('error', () => undefined);
  source.on('data', onData).on('end', onEnd).on('error', onError);
  return body;
}

function latin1(raw: Dispatcher.DispatchController['rawHeaders']): string[] {
  return Array.isArray(raw) ? raw.map((part) => (typeof part === 'string' ? part : part.toString('latin1'))) : [];
}
