import { constants, type X509Certificate } from 'node:crypto';
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { createServer, type SecureContextOptions, type TLSSocket } from 'node:tls';
import { headerValue } from '../../../tunnel/headers.ts';
import { AGENT_ERROR_HEADER } from '../../../tunnel/protocol.ts';
import { serveStream } from '../../../tunnel/serve-stream.ts';
import { type AgentTunnel, acceptTunnel } from '../../../tunnel/session.ts';
import { TargetError, targetStatus } from '../../../tunnel/target-error.ts';
import type { Upstream } from '../../../tunnel/upstream.ts';
import type { PeerAuthority, PeerCredentials } from './authority.ts';
import { CLUSTER_HEADER, NO_TUNNEL, withoutHopHeaders } from './forward.ts';
import { isFromAuthority, PEER_PROTOCOL, peerIdentity } from './identity.ts';
import { feedTunnels } from './tunnel-feed.ts';
import type { LocalTunnels } from './tunnel-list.ts';

/** The replica's own list of tunnels, which is no request to a cluster. */
export const PEERS_AUTHORITY = 'hub';
export const TUNNELS_PATH = '/tunnels';

const HANDSHAKE_MS = 5_000;
/** A peer has one connection, two for a while when certificates are renewed. */
const MAX_CONNECTIONS = 256;

export type PeerListenerOptions = {
  address: string;
  port: number;
  namespace: string;
  authority: PeerAuthority;
  tunnels: LocalTunnels;
  /** A peer that is not heard for so long, in milliseconds, has its requests ended. */
  goneMs: number;
  onError: (error: unknown) => void;
  signal: AbortSignal;
};

export type PeerListener = {
  port: number;
  /** Connections that are open, whoever has them. */
  connections(): number;
  /** Takes no new requests, lets those under way end for `graceMs`, then cuts what is left. */
  close(graceMs: number): Promise<void>;
};

/** No tickets, so that no session is resumed: it would carry a certificate past a change of the authority. */
function contextOptions(credentials: PeerCredentials | undefined): SecureContextOptions {
  return {
    ...(credentials && { cert: credentials.cert, key: credentials.key }),
    // An absent `ca` would mean the public CAs that Node brings along.
    ca: credentials ? credentials.ca : [],
    minVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** Listens for other replicas and gives their requests to the tunnels that end here, never to a third replica. Rejects when the port cannot be had. */
export async function listenForPeers(options: PeerListenerOptions): Promise<PeerListener> {
  const { namespace, authority, tunnels, goneMs, onError, signal } = options;
  const sockets = new Map<TLSSocket, { certificate: X509Certificate; tunnel: AgentTunnel }>();
  const closing = new AbortController();
  const server = createServer({
    ...contextOptions(authority.current()),
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: [PEER_PROTOCOL],
    handshakeTimeout: HANDSHAKE_MS,
  });
  server.maxConnections = MAX_CONNECTIONS;
  // A handshake that fails is the other side's affair.
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  server.on('secureConnection', (socket) => {
    socket.on('error', () => undefined);
    const certificate = socket.getPeerX509Certificate();
    try {
      peerIdentity(certificate, namespace, authority.current()?.ca ?? '');
      if (!certificate || socket.alpnProtocol !== PEER_PROTOCOL) throw new Error('it does not speak our protocol');
      const serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, raw: readonly string[]) =>
        answerPeer(stream, headers, raw, tunnels, closing.signal);
      const tunnel = acceptTunnel(socket, Buffer.alloc(0), { serve, onError, pingMs: goneMs / 4, silenceMs: goneMs });
      sockets.set(socket, { certificate, tunnel });
      socket.once('close', () => sockets.delete(socket));
      if (closing.signal.aborted) tunnel.leave();
    } catch (error) {
      socket.destroy();
      onError(new Error(`a connection between replicas was refused: ${error instanceof Error ? error.message : String(error)}`));
    }
  });
  // A session that is closing waits for the peer's end of the connection, which never comes when the network is cut.
  const sweep = setInterval(() => {
    for (const [socket, { tunnel }] of sockets) if (performance.now() - tunnel.heard() > 2 * goneMs) socket.destroy();
  }, goneMs);
  authority.onChange((credentials) => {
    server.setSecureContext(contextOptions(credentials));
    // Its CA counts no more.
    for (const [socket, { certificate }] of sockets) if (!isFromAuthority(certificate, credentials.ca)) socket.destroy();
  }, signal);

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      clearInterval(sweep);
      reject(error);
    });
    server.listen(options.port, options.address, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
  server.on('error', onError);
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound ? bound.port : options.port,
    connections: () => sockets.size,
    async close(graceMs) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // Peers are told, and each ends its connection when its last request has: only the side that asks can do that without losing a request on its way.
      closing.abort();
      const timer = setTimeout(() => {
        for (const socket of sockets.keys()) socket.destroy();
      }, graceMs);
      await closed;
      clearTimeout(timer);
      clearInterval(sweep);
    },
  };
}

function answerPeer(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  raw: readonly string[],
  tunnels: LocalTunnels,
  closing: AbortSignal,
): void {
  const id = headerValue(raw, CLUSTER_HEADER);
  if (id === undefined) {
    if (headers[':authority'] !== PEERS_AUTHORITY || headers[':path'] !== TUNNELS_PATH || headers[':method'] !== 'GET')
      refuse(stream, new TargetError(400, `a request between replicas without ${CLUSTER_HEADER}`), '400');
    else {
      stream.respond({ ':status': 200, 'content-type': 'application/x-ndjson' });
      feedTunnels(tunnels, stream, closing);
    }
    return;
  }
  const upstream = clusterNames(raw) === 1 ? tunnels.find(id) : undefined;
  if (upstream) serveStream(stream, headers, raw, plain(upstream));
  else refuse(stream, new TargetError(503, `this replica of the hub has no tunnel to cluster ${id}`), NO_TUNNEL);
}

const clusterNames = (raw: readonly string[]) => raw.filter((name, at) => at % 2 === 0 && name.toLowerCase() === CLUSTER_HEADER).length;

function refuse(stream: ServerHttp2Stream, error: TargetError, reason: string): void {
  // A body that is still coming is read away, so that the answer is not lost in a reset.
  stream.resume();
  stream.respond({ ':status': error.code, 'content-type': 'application/json', [AGENT_ERROR_HEADER]: reason });
  stream.end(targetStatus(error));
}

/** The tunnel gets the request as if it had arrived at this replica. */
function plain(upstream: Upstream): Upstream {
  return {
    exchange: (head, body, answer) => upstream.exchange({ ...head, headers: withoutHopHeaders(head.headers) }, body, answer),
    upgrade: (head, protocol, answer) => upstream.upgrade({ ...head, headers: withoutHopHeaders(head.headers) }, protocol, answer),
  };
}
