import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { ServingCertificate } from '../certificates/serving.ts';
import { watchConnections } from './connections.ts';
import { listenerTlsOptions, renewConnections, updateSecureContext } from './tls.ts';

export type ListenerOptions = {
  address: string;
  port: number;
  certificate: ServingCertificate;
  /** The bundle that client certificates of the front proxy are verified against; undefined while it is not known. */
  requestHeaderCA: () => string | undefined;
  onRequestHeaderCA: (listener: () => void, signal: AbortSignal) => void;
  /** Whether a connection is the front proxy's by what is known now. */
  isTrusted: (socket: TLSSocket) => boolean;
  signal: AbortSignal;
  onError: (error: unknown) => void;
  /** Takes connections over: those for which `wants` holds are handed to `take` instead of being answered as requests. */
  upgrades?: { wants: (request: IncomingMessage) => boolean; take: (request: IncomingMessage, socket: Duplex, head: Buffer) => void };
  /** Requests whose body may take as long as it likes. */
  isUnlimited?: (request: IncomingMessage) => boolean;
  /** Other limits than those of kube-apiserver. */
  limits?: Partial<typeof SERVER>;
};

export type Listener = {
  server: Server;
  port: number;
  /** Asks clients to go: connections end with their next answer, new ones are taken as before. To be called a while before `close`. */
  retire(): void;
  /** Stops accepting, lets requests in flight end for `graceMs`, then cuts what is left. */
  close(graceMs: number): Promise<void>;
};

/** Limits are those of Go's server in kube-apiserver, so that its transport never meets a connection that we closed first. */
const SERVER = {
  maxHeaderSize: 1 << 20,
  headersTimeout: 32_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 95_000,
  connectionsCheckingInterval: 1_000,
};
const MAX_CONNECTIONS = 10_000;

/** Listens with TLS and HTTP/1.1. A new certificate or request-header CA is taken into use without closing anything. */
export async function listen(app: RequestListener, options: ListenerOptions): Promise<Listener> {
  const { certificate, signal } = options;
  const { requestTimeout, ...limits } = { ...SERVER, ...options.limits };
  const { upgrades } = options;
  const serverOptions = {
    ...limits,
    // Ours, below: Node's would cut a large upload to a child cluster too.
    requestTimeout: 0,
    ...listenerTlsOptions(certificate.current(), options.requestHeaderCA()),
    ...(upgrades && { shouldUpgradeCallback: upgrades.wants }),
  };
  const server = createServer(serverOptions);
  renewConnections(server, options.requestHeaderCA(), options.isTrusted);
  const connections = watchConnections(server);
  server.maxHeadersCount = 0;
  server.maxConnections = MAX_CONNECTIONS;
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    if (!request.complete && !options.isUnlimited?.(request)) limitBody(request, response, requestTimeout);
  });
  server.on('request', app);
  if (upgrades) {
    server.on('upgrade', (request: IncomingMessage) => connections.taken(request.socket));
    server.on('upgrade', upgrades.take);
  }
  server.on('clientError', (error: Error & { code?: string }, socket) => rejectRequest(error, socket as Socket));
  // A handshake that fails is the client's affair; without a listener it would not be an error either, but say so here.
  server.on('tlsClientError', (_error, socket) => socket.destroy());

  const update = () => {
    try {
      updateSecureContext(server, certificate.current(), options.requestHeaderCA());
    } catch (error) {
      options.onError(error);
    }
  };
  certificate.onChange(update, signal);
  options.onRequestHeaderCA(update, signal);

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.address, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', options.onError);
  const bound = server.address();
  return {
    server,
    port: typeof bound === 'object' && bound ? bound.port : options.port,
    retire: connections.retire,
    async close(graceMs) {
      connections.retire();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      const timer = setTimeout(() => server.closeAllConnections(), graceMs);
      await closed;
      clearTimeout(timer);
    },
  };
}

/** Ends the connection of a request whose body is not there in time. */
function limitBody(request: IncomingMessage, response: ServerResponse, timeoutMs: number): void {
  const timer = setTimeout(() => {
    if (request.complete) return;
    if (response.headersSent) request.socket.destroy();
    else rejectRequest(Object.assign(new Error('the body took too long'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), request.socket);
  }, timeoutMs);
  const done = () => clearTimeout(timer);
  request.once('end', done).once('close', done);
}

const RAW_STATUS: Record<string, string> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** Bytes that are no request: one short answer, and the connection ends. */
function rejectRequest(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  socket.end(`HTTP/1.1 ${RAW_STATUS[error.code ?? ''] ?? '400 Bad Request'}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () =>
    socket.destroy(),
  );
}
