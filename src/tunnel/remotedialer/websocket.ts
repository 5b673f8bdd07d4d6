import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import { budget } from './budget.ts';
import { HEADER_BYTES, PAYLOAD_BYTES } from './frame.ts';
import { ProtocolError } from './protocol-error.ts';
import type { MessageTransport, TransportEvents } from './transport.ts';

/**
 * What both ends ask of `ws`. It refuses by itself, and closes with 1002: frames with reserved bits, with the wrong mask, unknown or misplaced opcodes,
 * control frames that are long or in fragments; with 1009: messages of more than `maxPayload`, by the length that they announce, before a byte of them is
 * kept; with 1008: more fragments than `maxFragments`, empty ones too. Peers in Go send 32 KiB in fragments of their write buffer, 4 KiB or less.
 * It lets go of a peer that has more than 60 pongs to read. Compression is never offered and never accepted, so nothing can be inflated.
 */
export const WEBSOCKET_OPTIONS = {
  perMessageDeflate: false,
  maxPayload: HEADER_BYTES + PAYLOAD_BYTES,
  maxFragments: 256,
  maxBufferedChunks: 1024,
  skipUTF8Validation: true,
} as const;

const GOING_AWAY = 1001;

/** Pings and pongs of the peer: so many at once, and so many a second. One every five seconds is usual, and one for each long pause. */
const CONTROL_BURST = 2_000;
const CONTROL_PER_SECOND = 200;
/** How long the peer has to answer our close frame; less when it broke the rules, as it may go on doing so. */
const CLOSE_MS = 2_000;
const BREACH_MS = 100;

/**
 * Accepts a clusternet agent: answers 101 on the upgraded socket, without a subprotocol, and then calls `accepted`. Of what is not a handshake `refused` is told why, and has to
 * answer; without it that gets 400. Both are called before the function returns; neither is when the socket is gone already.
 */
export function websocketAcceptor(): (
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  accepted: (transport: MessageTransport) => void,
  refused?: (error: Error) => void,
) => void {
  const server = new WebSocketServer({ ...WEBSOCKET_OPTIONS, noServer: true, clientTracking: false, handleProtocols: () => false });
  let onRefused: ((error: Error) => void) | undefined;
  server.on('wsClientError', (error, socket) => {
    if (onRefused) onRefused(error);
    else socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  });
  return (request, socket, head, accepted, refused) => {
    onRefused = refused;
    // It decides before it returns, so that no other request can come in between.
    server.handleUpgrade(request, socket, head, (ws) => accepted(websocketTransport(ws)));
    onRefused = undefined;
  };
}

/** The transport over an open websocket, which belongs to it from then on. */
export function websocketTransport(ws: WebSocket): MessageTransport {
  let events: TransportEvents | undefined;
  let failure: Error | undefined;
  let closing: NodeJS.Timeout | undefined;
  const mayControl = budget(CONTROL_BURST, CONTROL_PER_SECOND);

  const breach = (error: Error) => {
    failure ??= error;
    events?.broken(error);
  };
  const control = () => {
    if (mayControl()) return true;
    breach(new ProtocolError('too many pings or pongs'));
    return false;
  };
  // Until somebody listens nothing may be lost.
  ws.pause();
  ws.on('message', (data, isBinary) => {
    if (failure || !Buffer.isBuffer(data)) return;
    if (!isBinary) return breach(new ProtocolError('a text message'));
    events?.alive();
    events?.message(data);
  });
  ws.on('ping', () => void (control() && events?.alive()));
  ws.on('pong', () => {
    if (!control()) return;
    events?.alive();
    events?.pong();
  });
  ws.on('error', (error) => breach(error));
  ws.once('close', (code) => {
    clearTimeout(closing);
    events?.closed(failure ?? new Error(`the connection was closed (${code})`));
    events = undefined;
  });

  const isOpen = () => ws.readyState === WebSocket.OPEN;
  return {
    listen(listener) {
      events = listener;
      ws.resume();
    },
    send(message) {
      if (isOpen()) ws.send(message, { binary: true }, () => events?.drained());
    },
    bufferedAmount: () => ws.bufferedAmount,
    ping: () => isOpen() && ws.ping(),
    hold: () => ws.pause(),
    release: () => ws.resume(),
    close(code, reason) {
      if (ws.readyState === WebSocket.CLOSED || closing) return;
      // A held socket would never see the peer's answer.
      ws.resume();
      closing = setTimeout(() => ws.terminate(), code === GOING_AWAY ? CLOSE_MS : BREACH_MS);
      ws.close(code, Buffer.from(reason).subarray(0, 120).toString('latin1'));
    },
  };
}
