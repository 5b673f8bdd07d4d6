import { randomBytes } from 'node:crypto';
import { ProtocolError } from './protocol-error.ts';
import { readVarint, skipVarint, type Varint, varintLength, writeVarint } from './varint.ts';

/**
 * Kinds of frames, as clusternet's library has them. `addClient`, `removeClient` (between hubs) and `syncConnections` (of newer libraries) are known
 * so that they can be ignored.
 */
export const FRAME = {
  data: 1,
  connect: 2,
  error: 3,
  addClient: 4,
  removeClient: 5,
  pause: 6,
  resume: 7,
  syncConnections: 8,
} as const;

/** The field that `data` and `connect` carry: milliseconds that nobody reads. */
const DEADLINE = 15_000;

/** A whole frame of ours: three varints of at most ten bytes, the deadline of three. */
export const HEADER_BYTES = 33;

/** The longest payload. Peers copy with buffers of at most 32 KiB, one write a frame; twice that leaves room for others. */
export const PAYLOAD_BYTES = 64 * 1024;

/** One message of the websocket. `id` is the connection, any int64; `type` need not be one of FRAME. `payload` is a part of the message. */
export type Frame = { id: Varint; type: number; payload: Buffer };

/** Reads one message. The message id is checked and dropped, as nothing uses it. Throws a ProtocolError. */
export function decodeFrame(message: Buffer): Frame {
  const at = { offset: 0 };
  skipVarint(message, at);
  const id = readVarint(message, at);
  const type = readVarint(message, at);
  if (typeof type === 'bigint' || type < 1) throw new ProtocolError('the type of the frame makes no sense');
  if (type === FRAME.data || type === FRAME.connect) skipVarint(message, at);
  if (message.length - at.offset > PAYLOAD_BYTES) throw new ProtocolError(`a frame of more than ${PAYLOAD_BYTES} bytes`);
  return { id, type, payload: message.subarray(at.offset) };
}

/** Writes frames, each with the message id after the one before; the first is random in 63 bits. */
export function frameEncoder(): (id: Varint, type: number, payload: Buffer) => Buffer {
  let messageID = randomBytes(8).readBigUInt64BE() >> 1n;
  return (id, type, payload) => {
    messageID = BigInt.asUintN(63, messageID + 1n);
    const carriesDeadline = type === FRAME.data || type === FRAME.connect;
    const header = varintLength(messageID) + varintLength(id) + varintLength(type) + (carriesDeadline ? varintLength(DEADLINE) : 0);
    const frame = Buffer.allocUnsafe(header + payload.length);
    let offset = writeVarint(frame, 0, messageID);
    offset = writeVarint(frame, offset, id);
    offset = writeVarint(frame, offset, type);
    if (carriesDeadline) offset = writeVarint(frame, offset, DEADLINE);
    payload.copy(frame, offset);
    return frame;
  };
}
