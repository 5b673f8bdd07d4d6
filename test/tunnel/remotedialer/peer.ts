import { createConnection, type Socket } from 'node:net';
import type { WebSocket } from 'ws';

/** The other end, written from the description of the protocol alone. It shares no code with src/tunnel/remotedialer. */
export type PeerFrame = { messageID: bigint; id: bigint; type: bigint; deadline?: bigint; payload: Buffer };

export const DATA = 1n;
export const CONNECT = 2n;
export const ERROR = 3n;
export const ADD_CLIENT = 4n;
export const REMOVE_CLIENT = 5n;
export const PAUSE = 6n;
export const RESUME = 7n;
export const SYNC_CONNECTIONS = 8n;

/** binary.PutVarint of Go. */
export function putVarint(value: bigint): Buffer {
  let rest = BigInt.asUintN(64, value < 0n ? -2n * value - 1n : 2n * value);
  const bytes: number[] = [];
  while (rest > 127n) {
    bytes.push(Number(rest % 128n) + 128);
    rest /= 128n;
  }
  return Buffer.from([...bytes, Number(rest)]);
}

function varint(bytes: Buffer, offset: number): { value: bigint; end: number } {
  let zigzag = 0n;
  for (let end = offset; ; end++) {
    const byte = bytes[end];
    if (byte === undefined) throw new Error('the number does not end');
    zigzag += BigInt(byte % 128) * 128n ** BigInt(end - offset);
    if (byte < 128) return { value: zigzag % 2n === 0n ? zigzag / 2n : -(zigzag + 1n) / 2n, end: end + 1 };
  }
}

export function peerFrame(id: bigint, type: bigint, payload: Buffer | string = '', messageID = 6_000_000_000_000_000_000n): Buffer {
  const head = [putVarint(messageID), putVarint(id), putVarint(type)];
  if (type === DATA || type === CONNECT) head.push(putVarint(15_000n));
  return Buffer.concat([...head, Buffer.from(payload)]);
}

export function readPeerFrame(message: Buffer): PeerFrame {
  const messageID = varint(message, 0);
  const id = varint(message, messageID.end);
  const type = varint(message, id.end);
  const frame = { messageID: messageID.value, id: id.value, type: type.value };
  if (type.value !== DATA && type.value !== CONNECT) return { ...frame, payload: message.subarray(type.end) };
  const deadline = varint(message, type.end);
  return { ...frame, deadline: deadline.value, payload: message.subarray(deadline.end) };
}

/** All frames that came, and what is needed to wait for one of them. */
export type Peer = {
  ws: WebSocket;
  frames: PeerFrame[];
  send(id: bigint, type: bigint, payload?: Buffer | string): void;
  /** The next frame (from the first on) for which this is true. Rejects when the websocket closes. */
  frame(wanted: (frame: PeerFrame) => boolean): Promise<PeerFrame>;
  /** Calls for each frame from now on. */
  onFrame(listener: (frame: PeerFrame) => void): void;
  closed: Promise<number>;
};

/** `fragment`: sends messages in pieces of that many bytes, as Go's client does with its write buffer. */
export function peer(ws: WebSocket, { fragment = 4096 }: { fragment?: number } = {}): Peer {
  const frames: PeerFrame[] = [];
  const listeners = new Set<(frame: PeerFrame) => void>();
  const closed = new Promise<number>((resolve) => ws.once('close', resolve));
  ws.on('error', () => {});
  ws.on('message', (message) => {
    const frame = readPeerFrame(message as Buffer);
    frames.push(frame);
    for (const listener of listeners) listener(frame);
  });
  return {
    ws,
    frames,
    send(id, type, payload) {
      const bytes = peerFrame(id, type, payload);
      for (let from = 0; from < bytes.length; from += fragment) {
        ws.send(bytes.subarray(from, from + fragment), { binary: true, fin: from + fragment >= bytes.length });
      }
    },
    frame(wanted) {
      const found = frames.find(wanted);
      if (found) return Promise.resolve(found);
      return new Promise((resolve, reject) => {
        const listener = (frame: PeerFrame) => {
          if (!wanted(frame)) return;
          listeners.delete(listener);
          resolve(frame);
        };
        listeners.add(listener);
        void closed.then((code) => reject(new Error(`the websocket was closed: ${code}`)));
      });
    },
    onFrame: (listener) => void listeners.add(listener),
    closed,
  };
}

const MIB = 1024 * 1024;
export type PeerAgent = Peer & { open(): number; pausesSeen(): number; pausesSent(): number };

/**
 * An agent: dials what the hub asks for. `knowsPause: false` is one of the v0.1 era. As the library does it buffers without bound, asks for a pause above
 * 2 MiB and goes on below 256 KiB. The websocket and all sockets end with the signal.
 */
export function peerAgent(ws: WebSocket, { knowsPause = true, signal }: { knowsPause?: boolean; signal: AbortSignal }): PeerAgent {
  const side = peer(ws);
  type Open = { socket: Socket; paused: boolean; told: boolean };
  const sockets = new Map<bigint, Open>();
  let seen = 0;
  let sent = 0;
  const end = (id: bigint, text: string) => {
    const open = sockets.get(id);
    if (!open) return;
    sockets.delete(id);
    open.socket.destroy();
    side.send(id, ERROR, text.slice(0, 100));
  };
  /** A blocked write of Go's io.Copy: nothing more is read from the target while the websocket or the peer does not take it. */
  const flow = (open: Open) => {
    if ((knowsPause && open.paused) || ws.bufferedAmount > MIB) open.socket.pause();
    else open.socket.resume();
  };
  const dial = (id: bigint, address: string) => {
    const [host = '', port] = address.replace(/^tcp\//, '').split(/:(?=\d+$)/);
    const socket = createConnection({ host: host.replace(/[[\]]/g, ''), port: Number(port) });
    const open: Open = { socket, paused: false, told: false };
    sockets.set(id, open);
    socket.on('error', (error) => end(id, `dial tcp ${host}:${port}: ${error.message}`));
    socket.on('data', (chunk: Buffer) => {
      for (let from = 0; from < chunk.length; from += 32 * 1024) {
        side.send(id, DATA, chunk.subarray(from, from + 32 * 1024));
      }
      flow(open);
    });
    socket.on('end', () => end(id, 'EOF'));
    socket.on('drain', () => {
      if (open.told) side.send(id, RESUME);
      open.told = false;
    });
  };
  side.onFrame(({ id, type, payload }) => {
    if (type === CONNECT) return dial(id, payload.toString());
    const open = sockets.get(id);
    if (!open) {
      if (type === DATA) side.send(id, ERROR, `connection not found ${id}`);
      return;
    }
    if (type === DATA) {
      open.socket.write(payload);
      if (knowsPause && open.socket.writableLength > 2 * MIB && !open.told) {
        open.told = true;
        sent++;
        side.send(id, PAUSE);
      }
    } else if (type === ERROR) {
      sockets.delete(id);
      open.socket.end();
    } else if (type === PAUSE || type === RESUME) {
      if (type === PAUSE) seen++;
      open.paused = type === PAUSE;
      flow(open);
    }
  });
  const timer = setInterval(() => {
    for (const open of sockets.values()) flow(open);
  }, 5);
  const stop = () => {
    clearInterval(timer);
    for (const { socket } of sockets.values()) socket.destroy();
    sockets.clear();
    ws.terminate();
  };
  ws.once('close', stop);
  signal.addEventListener('abort', stop, { once: true });
  return { ...side, open: () => sockets.size, pausesSeen: () => seen, pausesSent: () => sent };
}
