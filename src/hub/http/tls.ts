import { constants, randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server, ServerOptions } from 'node:https';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { parseBundle } from '../certificates/bundle.ts';
import type { ServingPair } from '../certificates/serving.ts';

/** Milliseconds for a TLS handshake. */
const HANDSHAKE_MS = 10_000;

/**
 * What changes when a certificate or the request-header CA does. `requestHeaderCa` is a PEM bundle; without it NO certificate is trusted
 * (an absent `ca` would mean the public CAs that Node brings along).
 *
 * Sessions are never resumed: a resumed session would carry a client certificate past a change of the CA. Tickets are off, Node keeps no sessions itself (it
 * asks listeners of 'resumeSession', of which there are none), and each context names its sessions anew. Renegotiation is off too.
 */
function contextOptions(serving: ServingPair, requestHeaderCa: string | undefined): SecureContextOptions {
  return {
    cert: serving.cert,
    key: serving.key,
    ca: requestHeaderCa ? [requestHeaderCa] : [],
    minVersion: 'TLSv1.2',
    honorCipherOrder: true,
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    sessionTimeout: 1,
    sessionIdContext: randomBytes(16).toString('hex'),
  };
}

/** TLS options for `https.createServer`. A client certificate is asked for but not demanded: callers with a bearer token have none. */
export function listenerTlsOptions(serving: ServingPair, requestHeaderCa: string | undefined): ServerOptions {
  return {
    ...contextOptions(serving, requestHeaderCa),
    requestCert: true,
    rejectUnauthorized: false,
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: HANDSHAKE_MS,
  };
}

type Book = {
  requestHeaderCa: string | undefined;
  /** Ends what is idle and was judged by an older CA. */
  renew(): void;
};
const books = new WeakMap<Server, Book>();
const anchorsOf = new WeakMap<TLSSocket, ReadonlySet<string>>();

/**
 * Fingerprints (SHA-256) of the CAs that may have vouched for this connection's client certificate. undefined for a listener without `renewConnections`.
 * A handshake uses the CAs of its beginning, and Node tells of its end: those that went in the meantime are included.
 */
export const handshakeAnchors = (socket: TLSSocket): ReadonlySet<string> | undefined => anchorsOf.get(socket);

const fingerprints = (bundle: string | undefined) => (bundle ? parseBundle(bundle).map((ca) => ca.fingerprint256) : []);

/**
 * Lets a connection end after its present request when its handshake was judged by an older request-header CA and would be judged otherwise now:
 * it offered a certificate and `isTrusted` does not hold. A kept-alive connection of the front proxy would otherwise be refused for ever.
 * Upgraded connections are left alone. Call once, right after the server is made: before it listens and before other listeners are added.
 */
export function renewConnections(server: Server, requestHeaderCa: string | undefined, isTrusted: (socket: TLSSocket) => boolean): void {
  const connections = new Map<TLSSocket, { generation: number; active: number }>();
  /** The contexts that a handshake which ends now may have begun with; the last one is in use. */
  let contexts = [{ generation: 0, anchors: fingerprints(requestHeaderCa), until: Number.POSITIVE_INFINITY }];
  const current = () => contexts.at(-1)?.generation ?? 0;
  const isOutdated = (socket: TLSSocket, generation: number) =>
    generation < current() && socket.getPeerX509Certificate() !== undefined && !isTrusted(socket);

  server.on('secureConnection', (socket) => {
    contexts = contexts.filter((context) => context.until + HANDSHAKE_MS + 1_000 > performance.now());
    anchorsOf.set(socket, new Set(contexts.flatMap((context) => context.anchors)));
    connections.set(socket, { generation: contexts[0]?.generation ?? 0, active: 0 });
    socket.once('close', () => connections.delete(socket));
  });
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const socket = request.socket as TLSSocket;
    const connection = connections.get(socket);
    if (!connection) return;
    if (isOutdated(socket, connection.generation)) response.shouldKeepAlive = false;
    connection.active++;
    response.once('close', () => {
      connection.active--;
    });
  });
  // A listener of 'upgrade' decides whether Node upgrades at all: ours comes along only when somebody else has one.
  let watchesUpgrades = false;
  server.on('newListener', (event: string) => {
    if (event !== 'upgrade' || watchesUpgrades) return;
    watchesUpgrades = true;
    server.prependListener('upgrade', (request: IncomingMessage) => connections.delete(request.socket as TLSSocket));
  });
  books.set(server, {
    requestHeaderCa,
    renew() {
      const now = performance.now();
      const last = contexts.at(-1);
      if (last) last.until = now;
      const book = books.get(server);
      contexts.push({ generation: current() + 1, anchors: fingerprints(book?.requestHeaderCa), until: Number.POSITIVE_INFINITY });
      for (const [socket, { generation, active }] of connections) if (active === 0 && isOutdated(socket, generation)) socket.end();
    },
  });
}

/** Takes a new serving certificate and request-header CA into use for connections from now on; those that are open stay. Throws when the pair is broken. */
export function updateSecureContext(server: Server, serving: ServingPair, requestHeaderCa: string | undefined): void {
  server.setSecureContext(contextOptions(serving, requestHeaderCa));
  const book = books.get(server);
  if (!book || book.requestHeaderCa === requestHeaderCa) return;
  book.requestHeaderCa = requestHeaderCa;
  book.renew();
}
