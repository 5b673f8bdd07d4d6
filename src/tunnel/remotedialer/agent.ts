import type { Duplex } from 'node:stream';
import { SOCKETS_API } from '../protocol.ts';
import type { Limits } from './limits.ts';
import { type Connect, listenerSession } from './listener.ts';
import type { Session } from './session.ts';
import { openWebsocket } from './websocket-client.ts';

/** Where an agent opens its socket at a clusternet hub. */
export const remotedialerPath = (clusterID: string): string => `${SOCKETS_API}/sockets/${encodeURIComponent(clusterID)}`;

export type RemotedialerOptions = {
  /** `wss://<parent>` and `remotedialerPath`. */
  url: URL;
  /** Connects to the parent: TLS done, the parent verified, nothing sent yet. */
  open: (signal: AbortSignal) => Promise<Duplex>;
  /** The bearer token, asked for when the connection stands. */
  token: () => string | Promise<string>;
  userAgent: string;
  /** Reaches targets, and refuses those that are not allowed. */
  connect: Connect;
  /** For the connection and the answer to the handshake, together. */
  timeoutMs?: number;
  limits?: Partial<Limits>;
  /** Ends the session, or the attempt. */
  signal: AbortSignal;
};

/**
 * One session with a clusternet hub, as its agent. Resolves when the socket is open; when `ended` of the session resolves, the caller tries again after a
 * pause of its own. Rejects with what `open` rejected with, with a HandshakeError (its `status` 401 or 403: the credentials are refused), or with the
 * reason of the signal.
 */
export async function serveRemotedialer({ url, open, token, userAgent, connect, signal, ...rest }: RemotedialerOptions): Promise<Session> {
  const timeoutMs = rest.timeoutMs ?? 30_000;
  const attempt = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const socket = await open(attempt);
  let transport: Awaited<ReturnType<typeof openWebsocket>>;
  try {
    transport = await openWebsocket({ url, socket, token: await token(), userAgent, timeoutMs, signal: attempt });
  } catch (error) {
    socket.destroy();
    throw error;
  }
  const session = listenerSession(transport, { connect, ...(rest.limits && { limits: rest.limits }) });
  const end = () => session.end('the agent stops');
  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true });
  void session.ended.then(() => signal.removeEventListener('abort', end));
  return session;
}
