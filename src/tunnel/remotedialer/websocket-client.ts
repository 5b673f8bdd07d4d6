import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import type { MessageTransport } from './transport.ts';
import { WEBSOCKET_OPTIONS, websocketTransport } from './websocket.ts';

/** The hub did not switch protocols. `message` has the first line of what it said. */
export class HandshakeError extends Error {
  /** HTTP status, undefined when there was no answer. */
  readonly status: number | undefined;

  constructor(status: number | undefined, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'HandshakeError';
    this.status = status;
  }
}

export type HandshakeOptions = {
  /** `wss://host[:port]/path`; says Host and path. */
  url: URL;
  /** The connection to write the request on: TLS is done, and the parent is verified. Destroyed when the handshake fails. */
  socket: Duplex;
  /** Bearer token. */
  token: string;
  userAgent: string;
  timeoutMs: number;
  signal: AbortSignal;
};

const BODY_BYTES = 4_096;

async function firstLine(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response) {
    text += String(chunk);
    if (text.length >= BODY_BYTES) break;
  }
  return (text.split('\n', 1)[0] ?? '').replace(/\p{C}/gu, ' ').slice(0, 300);
}

/** Opens the websocket of an agent on a connection that stands. Rejects with a HandshakeError, or with the signal's reason. Redirects are not followed. */
export function openWebsocket({ url, socket, token, userAgent, timeoutMs, signal }: HandshakeOptions): Promise<MessageTransport> {
  const { promise, resolve, reject } = Promise.withResolvers<MessageTransport>();
  if (signal.aborted) {
    socket.destroy();
    return Promise.reject(signal.reason);
  }
  const plain = new URL(url);
  // TLS is the caller's; ws must not begin it again.
  plain.protocol = 'ws:';
  const ws = new WebSocket(plain, {
    ...WEBSOCKET_OPTIONS,
    headers: { Authorization: `Bearer ${token}`, 'User-Agent': userAgent, Host: url.host },
    followRedirects: false,
    createConnection: () => socket as never,
  });
  const fail = (error: Error) => {
    reject(error);
    socket.destroy();
    ws.terminate();
  };
  const abort = () => fail(signal.reason instanceof Error ? signal.reason : new Error('stopped'));
  const timer = setTimeout(() => fail(new HandshakeError(undefined, `no answer within ${timeoutMs / 1000} s`)), timeoutMs);
  signal.addEventListener('abort', abort, { once: true });
  const settled = () => {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  };
  promise.then(settled, settled);
  const refused = (error: Error) => fail(new HandshakeError(undefined, error.message, { cause: error }));
  ws.on('error', refused);
  ws.once('unexpected-response', (_request, response) => {
    const status = response.statusCode;
    firstLine(response).then(
      (line) => fail(new HandshakeError(status, `${status} ${line}`.trim())),
      (error: Error) => refused(error),
    );
  });
  ws.once('open', () => {
    ws.off('error', refused);
    resolve(websocketTransport(ws));
  });
  return promise;
}
