import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import { endToEnd } from './headers.ts';
import { TargetError } from './target-error.ts';
import { answered, explain, isWhole, messageOf, type Route } from './target-route.ts';
import type { Answer, Exchange, RawHeaders, RequestHead, UpgradeAnswer } from './upstream.ts';

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

/** An upgrade: `switched` when the target agrees, otherwise its answer whole. */
export function upgradeConnection(route: Route, head: RequestHead, protocol: string, answer: UpgradeAnswer): Exchange {
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

/** A request whose body is followed by trailers. */
export function exchangeWithTrailers(
  route: Route,
  head: RequestHead,
  body: { stream: Readable; trailers: () => RawHeaders },
  answer: Answer,
): Exchange {
  return ownConnection(route, answer, (socket, fail) => {
    // Chunks take the place of a length: with both (RFC 9112, section 6.2) a target could see two requests.
    const travelling = endToEnd(head.headers, (name) => name === 'content-length');
    const headers = [...travelling, 'connection', 'close', 'transfer-encoding', 'chunked'];
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
