import type { Socket } from 'node:net';

/** Types of HTTP/2 frames (RFC 9113, section 6). */
const [DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE] = [0, 1, 3, 4, 6, 7, 8];
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'.length;

/** An agent that speaks HTTP/2 by hand: it keeps the connection alive, notes what it gets, and obeys nothing else. */
export type FramePeer = {
  socket: Socket;
  /** Ids of the streams that requests came on. */
  requests: number[];
  /** Ids of the streams that were reset. */
  resets: number[];
  /** What each GOAWAY said. */
  goaways: string[];
  /** Payloads of its pings, each as text. */
  pings: string[];
  /** An answer's head (200, nothing else) on a stream. */
  answer(stream: number): void;
  /** Body, in frames of 16 KiB, whatever windows say. */
  data(stream: number, bytes: number): void;
};

export function framePeer({ socket, head }: { socket: Socket; head: Buffer }): FramePeer {
  let rest = head;
  let preface = PREFACE;
  const requests: number[] = [];
  const resets: number[] = [];
  const goaways: string[] = [];
  const pings: string[] = [];
  const send = (type: number, flags: number, stream: number, payload = Buffer.alloc(0)) => {
    const frame = Buffer.alloc(9);
    frame.writeUIntBE(payload.length, 0, 3);
    frame.writeUInt8(type, 3);
    frame.writeUInt8(flags, 4);
    frame.writeUInt32BE(stream, 5);
    if (!socket.destroyed) socket.write(Buffer.concat([frame, payload]));
  };
  const take = (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    if (preface > 0) {
      if (rest.length < preface) return;
      rest = rest.subarray(preface);
      preface = 0;
    }
    while (rest.length >= 9) {
      const length = rest.readUIntBE(0, 3);
      if (rest.length < 9 + length) return;
      const [type, flags, stream] = [rest.readUInt8(3), rest.readUInt8(4), rest.readUInt32BE(5)];
      const payload = Buffer.from(rest.subarray(9, 9 + length));
      rest = rest.subarray(9 + length);
      if (type === SETTINGS && (flags & 1) === 0) send(SETTINGS, 1, 0);
      else if (type === PING && (flags & 1) === 0) {
        pings.push(payload.toString('latin1'));
        send(PING, 1, 0, payload);
      } else if (type === HEADERS) requests.push(stream);
      else if (type === RST_STREAM) resets.push(stream);
      else if (type === GOAWAY) goaways.push(payload.subarray(8).toString());
    }
  };
  socket.on('data', take);
  socket.on('error', () => undefined);
  socket.on('end', () => socket.destroy());
  // Extended CONNECT, a large window for the session.
  send(SETTINGS, 0, 0, Buffer.from([0, 8, 0, 0, 0, 1]));
  send(WINDOW_UPDATE, 0, 0, Buffer.from([0x01, 0, 0, 0]));
  take(Buffer.alloc(0));
  return {
    socket,
    requests,
    resets,
    goaways,
    pings,
    // 0x88: `:status: 200` of HPACK's static table.
    answer: (stream) => send(HEADERS, 4, stream, Buffer.from([0x88])),
    data(stream, bytes) {
      for (let left = bytes; left > 0; left -= 16_384) send(DATA, 0, stream, Buffer.alloc(Math.min(left, 16_384), 'x'));
    },
  };
}
