import {
  type ClientHttp2Session,
  connect,
  constants,
  type Http2Session,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type SessionOptions,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { countStreams } from './count-streams.ts';
import { cutStream } from './cut.ts';
import { PING_MS, SESSION_WINDOW, SILENCE_MS, STREAM_WINDOW } from './protocol.ts';

/** What answers the requests of one side; `rawHeaders` is flat and has the pseudo-headers too. */
export type StreamHandler = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: readonly string[]) => void;

/** What both ends know of a session. */
type Live = {
  /** Resolves, when the session has ended, with the reason in a few words. */
  closed: Promise<string>;
  /** Milliseconds of the last ping; undefined before the first came back. */
  roundTripMs(): number | undefined;
  /** When the other side was last heard, in milliseconds of performance.now(). */
  heard(): number;
};

/** The accepting side of a tunnel: the agent. */
export type AgentTunnel = Live & {
  /** The hub wants this tunnel to be opened elsewhere. It goes on sending requests until `leave`, or until it has sent GOAWAY. */
  isDraining(): boolean;
  onDraining(listener: () => void): void;
  /**
   * Asks the calling side to send nothing new, which it then ends when its open streams have. Only the side that opens streams can end a session without losing one
   * that is on its way.
   */
  leave(): void;
};

/** The calling side of a tunnel: the hub. */
export type HubTunnel = Live & {
  session: ClientHttp2Session;
  /** The other side wants to leave, or was asked to: another tunnel is better than this one, which may still take streams. */
  isDraining(): boolean;
  /** The session takes no new streams. */
  isClosing(): boolean;
  /** The end was asked for, by one side or the other: the agent is elsewhere by now, or about to be. False when it was cut. */
  hasLeft(): boolean;
  onDraining(listener: () => void): void;
  /** Asks the other side to open its tunnel elsewhere. This one takes new streams until the other side leaves. */
  drain(): void;
  /** Opens no new streams; ends when those that are open have. */
  close(): void;
  /** Cuts everything. `reason` reaches the other side (at most 100 bytes). */
  destroy(reason: string): void;
};

export type SessionTiming = { pingMs?: number; silenceMs?: number };

/** One caller may have 1,000 groups of 100 bytes; a header list is as long as kube-apiserver's limit of 1 MiB and what we add to it. */
const MAX_HEADER_LIST = 1_400_000;
/**
 * nghttp2 ends the whole session when a block of headers comes in more than nine frames of 16 KiB. So that one request cannot end those of all others, what is larger is
 * not sent, and its stream fails.
 */
export const MAX_HEADER_BLOCK = 9 * 16_384 - 1_024;

/** How long a list of headers can become as a block, at most. */
export const headerBlockSize = (headers: readonly string[]): number => headers.reduce((sum, text) => sum + text.length + 16, 0);
const OPTIONS: SessionOptions = {
  maxHeaderListPairs: 8_192,
  maxSendHeaderBlockLength: MAX_HEADER_BLOCK,
  maxSessionMemory: 256,
  maxOutstandingPings: 4,
  maxSettings: 16,
  // Targets repeat what should stand once; that passes as it came, and must not throw.
  strictSingleValueFields: false,
  settings: { initialWindowSize: STREAM_WINDOW, maxHeaderListSize: MAX_HEADER_LIST, enablePush: false },
  unknownProtocolTimeout: 10_000,
} as SessionOptions;
/** Streams that one tunnel may have open: watches and execs of everybody. */
const MAX_STREAMS = 10_000;

/** Pings, and gives the session up when the other side stays silent. Any frame counts as a sign of life. */
function keepAlive(
  session: Http2Session,
  connection: Duplex,
  { pingMs = PING_MS, silenceMs = SILENCE_MS }: SessionTiming,
): Pick<Live, 'roundTripMs' | 'heard'> {
  let roundTrip: number | undefined;
  let heard = performance.now();
  let bytes = 0;
  let silent = 0;
  let ticks = 0;
  const { socket } = session;
  const tickMs = Math.min(pingMs, silenceMs) / 5;
  const look = () => {
    // Destroyed comes before 'close', and then ping() throws.
    if (session.destroyed) return;
    const { bytesRead } = socket as Socket;
    if (bytesRead !== bytes) {
      bytes = bytesRead;
      silent = 0;
      heard = performance.now();
    }
    // Silence is counted in ticks: when this process itself was stopped for a minute, the other side was not silent.
    if (++silent * tickMs > silenceMs) {
      session.destroy(new Error(`silent for ${Math.round(silenceMs / 1_000)} s`));
      // Node waits for the other side to take its end; nobody is there.
      connection.destroy();
      return;
    }
    if (ticks++ % Math.round(pingMs / tickMs) !== 0) return;
    // Its last bytes are on their way, and Node sends no pings any more.
    if (session.closed) return;
    // False when too many are on their way: then silence decides.
    session.ping((error, durationMs) => {
      if (error) return;
      roundTrip = durationMs;
      silent = 0;
      heard = performance.now();
    });
  };
  const timer = setInterval(look, tickMs);
  session.once('close', () => clearInterval(timer));
  look();
  return { roundTripMs: () => roundTrip, heard: () => heard };
}

/** When the session has ended, and why. */
function ended(session: Http2Session, socket: Duplex): Promise<string> {
  return new Promise((resolve) => {
    let why = 'the connection ended';
    // What the other side said: the GOAWAY without words and the errors that follow are only the consequence.
    let said = '';
    const onError = (error: Error) => {
      why = error.message;
    };
    session.on('error', onError);
    socket.on('error', onError);
    session.on('goaway', (code: number, _last: number, data?: Buffer) => {
      said ||= data?.toString('utf8').slice(0, 100) ?? '';
      if (code !== constants.NGHTTP2_NO_ERROR) why = `GOAWAY with code ${code}`;
    });
    session.once('close', () => {
      socket.destroy();
      resolve(said || why);
    });
  });
}

/**
 * Payloads of pings with a meaning. An end that does not know them answers as to any ping. DRAIN: open your tunnel elsewhere. LEAVE: send me nothing new.
 */
const DRAIN = Buffer.from('fl-drain');
const LEAVE = Buffer.from('fl-leave');
/** Between attempts to send one while too many pings are on their way. */
const SIGNAL_RETRY_MS = 100;

/** Sends a ping that has a meaning. */
function signal(session: Http2Session, payload: Buffer): void {
  if (session.destroyed || session.closed) return;
  if (!session.ping(payload, () => undefined)) setTimeout(() => signal(session, payload), SIGNAL_RETRY_MS);
}

/** Listeners told once when draining begins. */
function draining() {
  let began = false;
  const listeners: Array<() => void> = [];
  return {
    isDraining: () => began,
    onDraining(listener: () => void) {
      if (began) listener();
      else listeners.push(listener);
    },
    begin() {
      if (began) return;
      began = true;
      for (const listener of listeners.splice(0)) listener();
    },
  };
}

/** Node calls `setNoDelay` and others on what should be a socket; a TLS socket has them, a stream in between may not. */
function noDelay(socket: Duplex): void {
  if ('setNoDelay' in socket && typeof socket.setNoDelay === 'function') socket.setNoDelay(true);
  if ('setTimeout' in socket && typeof socket.setTimeout === 'function') socket.setTimeout(0);
}

/** Takes the accepting side of HTTP/2 on a connection that was upgraded; `head` are bytes that came with the answer. */
export function acceptTunnel(
  socket: Duplex,
  head: Buffer,
  options: { serve: StreamHandler; onError: (error: unknown) => void } & SessionTiming,
): AgentTunnel {
  noDelay(socket);
  if (head.length > 0) socket.unshift(head);
  const session: ServerHttp2Session = performServerHandshake(socket, {
    ...OPTIONS,
    settings: { ...OPTIONS.settings, enableConnectProtocol: true, maxConcurrentStreams: MAX_STREAMS },
  });
  session.setLocalWindowSize(SESSION_WINDOW);
  const closed = ended(session, socket);
  const state = draining();
  session.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, rawHeaders: string[]) => {
    // A stream that fails is the affair of its request; without a listener it would end the process.
    stream.on('error', () => undefined);
    try {
      options.serve(stream, headers, rawHeaders);
    } catch (error) {
      options.onError(error);
      cutStream(stream);
    }
  });
  // With a reason it is the end, which comes right after it (with a second GOAWAY, of Node's own), and not the wish for a tunnel elsewhere.
  let ending = false;
  session.on('goaway', (_code: number, _last: number, data?: Buffer) => {
    ending ||= Boolean(data?.length);
    if (!ending) state.begin();
  });
  session.on('ping', (payload: Buffer) => {
    if (payload.equals(DRAIN)) state.begin();
  });
  return {
    closed,
    ...keepAlive(session, socket, options),
    ...state,
    leave: () => signal(session, LEAVE),
  };
}

/** Takes the calling side of HTTP/2 on a connection that was upgraded. On the side that sent `101`, call it only after that write's callback and one `setImmediate`. */
export function connectTunnel(socket: Duplex, head: Buffer, options: SessionTiming = {}): HubTunnel {
  noDelay(socket);
  if (head.length > 0) socket.unshift(head);
  const session = connect('http://tunnel', { ...OPTIONS, createConnection: () => socket });
  session.setLocalWindowSize(SESSION_WINDOW);
  const closed = ended(session, socket);
  const state = draining();
  const streams = countStreams(session, () => closing);
  let closing = false;
  let left = false;
  const close = () => {
    closing = true;
    left = true;
    state.begin();
    // Not goaway(): after it, without a stream, Node reads no more, and would not see that the other side has gone.
    streams.whenIdle(() => session.close());
  };
  session.on('goaway', () => {
    closing = true;
    state.begin();
  });
  session.on('ping', (payload: Buffer) => {
    if (payload.equals(LEAVE)) close();
  });
  return {
    session,
    closed,
    ...keepAlive(session, socket, options),
    ...state,
    isClosing: () => closing || session.closed,
    hasLeft: () => left,
    drain() {
      if (state.isDraining()) return;
      left = true;
      state.begin();
      signal(session, DRAIN);
    },
    close,
    destroy(reason) {
      closing = true;
      left = false;
      state.begin();
      if (session.destroyed) return;
      session.goaway(constants.NGHTTP2_NO_ERROR, 0, Buffer.from(reason.slice(0, 100)));
      // With an error, so that no answer under way looks whole.
      session.destroy(new Error(reason));
      // The reason may still be on its way; who does not take it is cut all the same.
      const timer = setTimeout(() => socket.destroy(), 1_000);
      socket.once('close', () => clearTimeout(timer));
    },
  };
}
