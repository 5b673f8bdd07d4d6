import type { Duplex } from 'node:stream';
import { TargetError } from '../target-error.ts';
import { NOT_ALLOWED } from './error-text.ts';
import { FRAME } from './frame.ts';
import type { Limits } from './limits.ts';
import { type Session, sessionLimits, startSession } from './session.ts';
import type { MessageTransport } from './transport.ts';

/** The hub's side: opens connections to what the agent can reach. */
export type DialerSession = Session & {
  /**
   * A connection to `host` (name or address, IPv6 with or without brackets). It can be written to at once; the protocol has no word for "connected", so a
   * target that cannot be reached shows as a TargetError on the stream: 403 the agent does not allow it, 502, 504 it timed out, 503 the tunnel is gone.
   * Throws a TargetError: 400 the name is too long for the protocol, 429 too many connections, 503 the tunnel is gone.
   */
  connect(host: string, port: number): Duplex;
};

/** Agents read no more of an address. */
const ADDRESS_BYTES = 100;

/** Serves a clusternet agent. */
export function dialerSession(transport: MessageTransport, options: { limits?: Partial<Limits> } = {}): DialerSession {
  const limits = sessionLimits(options.limits);
  const core = startSession(transport, {
    limits,
    lingerMs: limits.lingerMs,
    // Only the hub opens connections: an agent has no business in the hub's network.
    connect({ send }, id) {
      send(id, FRAME.error, Buffer.from(NOT_ALLOWED));
      return false;
    },
  });
  let lastID = 1;
  return {
    ...core,
    connect(host, port) {
      const address = `tcp/${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`;
      const payload = Buffer.from(address);
      if (core.isOver()) throw new TargetError(503, `${address}: the tunnel is gone`);
      if (payload.length > ADDRESS_BYTES) throw new TargetError(400, `${address}: the agent's protocol allows ${ADDRESS_BYTES} bytes`);
      if (core.connections() >= limits.connections)
        throw new TargetError(429, `${address}: the tunnel has ${limits.connections} connections`);
      const id = ++lastID;
      const stream = core.open(id, address);
      core.send(id, FRAME.connect, payload);
      return stream;
    },
  };
}
