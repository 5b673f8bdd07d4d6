import type { Duplex } from 'node:stream';
import { TargetError } from '../target-error.ts';
import { budget } from './budget.ts';
import { type Connection, connection } from './connection.ts';
import { decodeFrame, FRAME, type Frame, frameEncoder } from './frame.ts';
import { intake } from './intake.ts';
import { LIMITS, type Limits } from './limits.ts';
import { liveness } from './liveness.ts';
import { outbox } from './outbox.ts';
import { ProtocolError } from './protocol-error.ts';
import type { MessageTransport } from './transport.ts';
import type { Varint } from './varint.ts';

/** Close codes of the websocket (RFC 6455, section 7.4.1). */
const CLOSE = { goingAway: 1001, protocolError: 1002, policy: 1008 } as const;

/** A peer that sends data for nobody is told so, unless so much waits to be read by it: a flood is not worth as many answers. */
const REPLY_BYTES = 16 * 1024;

/** One side of a tunnel. */
export type Session = {
  /** Why it ended. Never rejects. */
  ended: Promise<Error>;
  /** Open connections. */
  connections(): number;
  /** Bytes that wait for readers, and whether the peer was seen to ignore pauses. */
  stats(): { buffered: number; ignoresPause: boolean };
  roundTripMs(): number | undefined;
  /** When anything was last heard. */
  lastHeard(): Date;
  /** Ends the tunnel and all connections in it. */
  end(reason: string): void;
};

/** What the two roles build on. */
export type SessionCore = Session & {
  /** Makes the connection known. The caller sees to it that the id is free and that there are not too many. */
  open(id: Varint, address: string): Duplex;
  has(id: Varint): boolean;
  /** Sends a frame; after the end of the session it does nothing. */
  send(id: Varint, type: number, payload: Buffer): void;
  isOver(): boolean;
};

type Role = {
  limits?: Partial<Limits>;
  lingerMs: number;
  /** The peer wants a connection. False when it does not get one. */
  connect(core: SessionCore, id: Varint, payload: Buffer): boolean;
};

export function sessionLimits(changed: Partial<Limits> | undefined): Limits {
  return { ...LIMITS, ...changed };
}

/** Runs a session over a transport that is open. Nothing that the peer sends makes this throw; what breaks the protocol ends the session. */
export function startSession(transport: MessageTransport, { limits: changed, lingerMs, connect }: Role): SessionCore {
  const limits = sessionLimits(changed);
  const encode = frameEncoder();
  const connections = new Map<Varint, Connection>();
  const ended = Promise.withResolvers<Error>();
  const mayStray = budget(limits.strayBurst, limits.strayPerSecond);
  let over = false;
  let lastTaken = performance.now();

  const finish = (error: Error, code: number, reason: string) => {
    if (over) return;
    over = true;
    life.stop();
    for (const { stream } of [...connections.values()]) stream.destroy(new TargetError(503, `tunnel disconnect: ${error.message}`));
    connections.clear();
    into.close();
    transport.close(code, reason);
    ended.resolve(error);
  };
  const send = (id: Varint, type: number, payload: Buffer) => {
    if (over) return;
    if (transport.bufferedAmount() > limits.unreadBytes) {
      return finish(new ProtocolError('the peer does not read the answers to what it sends'), CLOSE.policy, 'nothing is read');
    }
    if (transport.bufferedAmount() === 0) lastTaken = performance.now();
    transport.send(encode(id, type, payload));
  };
  const life = liveness({
    pingMs: limits.pingMs,
    silenceMs: limits.silenceMs,
    ping: () => transport.ping(),
    deaf: () => into.held(),
    silent: () => finish(new Error(`nothing was heard for ${limits.silenceMs / 1000} s`), CLOSE.goingAway, 'silence'),
    tick() {
      if (transport.bufferedAmount() === 0 || performance.now() - lastTaken < limits.unreadMs) return;
      finish(new Error(`the peer took nothing for ${limits.unreadMs / 1000} s`), CLOSE.goingAway, 'nothing is read');
    },
  });
  const into = intake({ limits, hold: () => transport.hold(), release: () => transport.release(), probe: life.probe });
  const out = outbox(() => transport.bufferedAmount(), limits.writeBytes);
  const wire = { send, outbox: out, intake: into, lingerMs, forget: (id: Varint) => void connections.delete(id) };

  /** A frame that leads nowhere. A few are natural: what was under way when a connection ended. */
  const stray = () => {
    if (!mayStray()) throw new ProtocolError('too many frames that lead nowhere');
  };
  const dispatch = ({ id, type, payload }: Frame) => {
    if (type === FRAME.connect) return connect(core, id, payload) ? undefined : stray();
    const known = connections.get(id);
    if (type === FRAME.data && known && payload.length > 0) return known.data(payload);
    if (type === FRAME.error && known) return known.error(payload);
    stray();
    if (type === FRAME.pause) known?.pause();
    else if (type === FRAME.resume) known?.resume();
    else if (type === FRAME.data && !known && transport.bufferedAmount() < REPLY_BYTES) {
      send(id, FRAME.error, Buffer.from(`connection not found ${id}`));
    }
  };

  transport.listen({
    message(message) {
      if (over) return;
      try {
        dispatch(decodeFrame(message));
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        finish(error, CLOSE.protocolError, error.message);
      }
    },
    broken: (error) => finish(error, CLOSE.protocolError, 'protocol error'),
    alive: life.alive,
    pong: life.pong,
    drained() {
      lastTaken = performance.now();
      out.drained();
    },
    closed: (error) => finish(error, CLOSE.goingAway, ''),
  });

  const core: SessionCore = {
    ended: ended.promise,
    connections: () => connections.size,
    stats: into.stats,
    roundTripMs: life.roundTripMs,
    lastHeard: life.lastHeard,
    end: (reason) => finish(new Error(reason), CLOSE.goingAway, reason),
    open(id, address) {
      const opened = connection(wire, id, address);
      connections.set(id, opened);
      return opened.stream;
    },
    has: (id) => connections.has(id),
    send,
    isOver: () => over,
  };
  return core;
}
