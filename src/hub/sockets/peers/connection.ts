import type { X509Certificate } from 'node:crypto';
import { constants } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { lines } from '../../../kube/lines.ts';
import { connectTunnel } from '../../../tunnel/session.ts';
import { sessionUpstream } from '../../../tunnel/session-upstream.ts';
import { unblocked } from '../../../tunnel/unblocked.ts';
import type { PeerCredentials } from './authority.ts';
import type { Owner } from './forward.ts';
import { PEER_PROTOCOL, peerIdentity } from './identity.ts';
import { PEERS_AUTHORITY, TUNNELS_PATH } from './listener.ts';
import { parseTunnelLine, type TunnelInfo } from './tunnel-list.ts';

/** Times in milliseconds. */
export type PeerTiming = {
  /** Between two pings. */
  pingMs: number;
  /** Unheard for so long, a peer gets no new requests, and those that have no answer yet fail. */
  silentMs: number;
  /** Unheard for so long, the connection is given up. Longer, because a peer that was only busy keeps its watches and execs. */
  goneMs: number;
  /** For TCP, TLS and the list of tunnels together. */
  connectMs: number;
  /** Bounds of the pause before another attempt. */
  minBackoffMs: number;
  maxBackoffMs: number;
};

export const PEER_TIMING: PeerTiming = {
  pingMs: 500,
  silentMs: 1_500,
  goneMs: 10_000,
  connectMs: 3_000,
  minBackoffMs: 100,
  maxBackoffMs: 5_000,
};

/** `left`: the agent went elsewhere. `withPeer`: the replica is gone or cut off, and the tunnel may still be there. */
export type OnGone = (tunnel: TunnelInfo, how: { left: boolean; withPeer: boolean }) => void;

/** A connection to another replica, whose list of tunnels is in. */
export type PeerConnection = Owner & {
  certificate: X509Certificate;
  tunnels: ReadonlyMap<string, TunnelInfo>;
  /** Whether it is heard and takes requests. */
  usable(): boolean;
  /** Whether the peer has said that it closes. */
  isClosing(): boolean;
  /** When the peer was last heard. */
  heard(): Date;
  /** Resolves with the reason when the connection has ended. */
  closed: Promise<string>;
  /** Takes no more requests, and ends when those that are under way have. */
  retire(): void;
  destroy(reason: string): void;
};

export type PeerConnectionOptions = {
  address: string;
  port: number;
  namespace: string;
  credentials: PeerCredentials;
  timing: PeerTiming;
  signal: AbortSignal;
  /** Tunnels came, went or changed, or cannot be reached any more or again. */
  onChange: (ids: Iterable<string>) => void;
  /** A tunnel has ended, as the peer said, or cannot be reached, because the peer is not heard any more. Told before `onChange`. */
  onGone: OnGone;
  /** The peer fell silent, is heard again, or takes no more requests. */
  onState: (state: 'silent' | 'heard' | 'draining') => void;
};

/** The other end is no replica, or its certificate is not good. */
export class PeerIdentityError extends Error {}

/** Connects, proves both identities and reads the list of tunnels. Rejects with a PeerIdentityError, or an Error when the peer is not reached. */
export async function connectPeer(options: PeerConnectionOptions): Promise<PeerConnection> {
  const { address, port, namespace, credentials, timing, signal, onChange, onGone, onState } = options;
  signal.throwIfAborted();
  const line = connectTcp({ host: address, port, noDelay: true });
  const socket = connectTls({
    socket: unblocked(line),
    cert: credentials.cert,
    key: credentials.key,
    ca: credentials.ca,
    minVersion: 'TLSv1.3',
    ALPNProtocols: [PEER_PROTOCOL],
    rejectUnauthorized: true,
    // Replicas are known by the URI in their certificate, which is looked at before anything is sent.
    checkServerIdentity: () => undefined,
  });
  const where = `${address}:${port}`;
  const timer = setTimeout(() => socket.destroy(new Error(`${where}: no connection within ${timing.connectMs} ms`)), timing.connectMs);
  const giveUp = () => socket.destroy(new Error('given up'));
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    const { identity, certificate } = await handshake(socket, namespace, credentials.ca);
    const tunnel = connectTunnel(socket, Buffer.alloc(0), { pingMs: timing.pingMs, silenceMs: timing.goneMs });
    const { session } = tunnel;
    const tunnels = new Map<string, TunnelInfo>();
    const silenced = new Set<() => void>();
    let silent = false;
    let retired = false;
    let closing = false;
    let open = true;

    /** With the peer its tunnels are out of reach. Those that another replica holds too are not. */
    const lose = () => {
      if (retired) return;
      for (const lost of tunnels.values()) onGone(lost, { left: closing || tunnel.isDraining(), withPeer: true });
      onChange(tunnels.keys());
    };
    const watch = watchSilence(tunnel.heard, timing, (isSilent, isGone) => {
      // A session that is closing waits for the peer's end of the connection, which never comes when the network is cut.
      if (isGone) socket.destroy();
      if (silent === isSilent) return;
      silent = isSilent;
      if (silent) {
        for (const listener of [...silenced]) listener();
        lose();
      } else if (!retired) onChange(tunnels.keys());
      onState(silent ? 'silent' : 'heard');
    });
    const closed = tunnel.closed.finally(() => {
      open = false;
      clearInterval(watch);
      signal.removeEventListener('abort', giveUp);
      lose();
    });
    tunnel.onDraining(() => {
      if (!retired) onChange(tunnels.keys());
      onState('draining');
    });

    const feed = session.request({ ':method': 'GET', ':scheme': 'https', ':authority': PEERS_AUTHORITY, ':path': TUNNELS_PATH });
    const synced = Promise.withResolvers<void>();
    async function readFeed(): Promise<void> {
      for await (const text of lines(feed)) {
        const line = parseTunnelLine(text);
        if (!line) continue;
        if ('synced' in line) {
          synced.resolve();
          continue;
        }
        if ('closing' in line) {
          closing = true;
          if (!retired) onChange(tunnels.keys());
          onState('draining');
          tunnel.close();
          continue;
        }
        const id = 'gone' in line ? line.gone : line.tunnel.id;
        const before = tunnels.get(id);
        if ('tunnel' in line) tunnels.set(id, line.tunnel);
        else tunnels.delete(id);
        if ('gone' in line && before && !retired) onGone(before, { left: line.left === true, withPeer: false });
        if (!retired) onChange([id]);
      }
    }
    const broken = (why: string) => {
      synced.reject(new Error(`${where}: ${why}`));
      if (!retired) tunnel.destroy(why);
    };
    const onEnd = () => {
      // A peer that closes lets requests end that are under way.
      if (closing || tunnel.isDraining()) synced.reject(new Error(`${where}: it is closing`));
      else broken('the list of tunnels has ended');
    };
    readFeed().then(onEnd, (error: unknown) => broken(`the list of tunnels: ${error instanceof Error ? error.message : String(error)}`));
    await synced.promise;

    return {
      identity,
      certificate,
      tunnels,
      upstream: sessionUpstream(tunnel, `replica ${identity} of the hub`),
      usable: () => open && !silent && !retired && !closing && !tunnel.isDraining(),
      isClosing: () => closing || tunnel.isDraining(),
      heard: () => new Date(Date.now() - (performance.now() - tunnel.heard())),
      onSilence(listener) {
        silenced.add(listener);
        return () => silenced.delete(listener);
      },
      closed,
      retire() {
        if (retired) return;
        retired = true;
        feed.close(constants.NGHTTP2_CANCEL);
        tunnel.close();
      },
      destroy: tunnel.destroy,
    };
  } catch (error) {
    socket.destroy();
    signal.removeEventListener('abort', giveUp);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function handshake(socket: TLSSocket, namespace: string, ca: string): Promise<{ identity: string; certificate: X509Certificate }> {
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    // Stays, because an error without a listener would end the process.
    socket.on('error', (error) => reject(socket.authorizationError ? new PeerIdentityError(error.message) : error));
    socket.once('close', () => reject(new Error('the connection was closed in the handshake')));
  });
  try {
    const certificate = socket.getPeerX509Certificate();
    const identity = peerIdentity(certificate, namespace, ca);
    if (!certificate || socket.alpnProtocol !== PEER_PROTOCOL) throw new Error('it does not speak our protocol');
    return { identity, certificate };
  } catch (error) {
    throw new PeerIdentityError(error instanceof Error ? error.message : String(error));
  }
}

/** Tells, again and again, whether nothing has been heard for `silentMs`, and whether that is so for longer than the session would bear. */
function watchSilence(
  heard: () => number,
  { silentMs, goneMs }: PeerTiming,
  tell: (isSilent: boolean, isGone: boolean) => void,
): NodeJS.Timeout {
  let before = performance.now();
  return setInterval(
    () => {
      const now = performance.now();
      // This process itself stood still: what the peer sent meanwhile has not been read yet.
      const isLate = now - before > silentMs / 2;
      before = now;
      if (!isLate) tell(now - heard() > silentMs, now - heard() > goneMs + silentMs);
    },
    Math.max(10, silentMs / 15),
  );
}
