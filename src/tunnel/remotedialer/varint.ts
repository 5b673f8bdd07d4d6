import { ProtocolError } from './protocol-error.ts';

/** An int64. A number when that is exact, otherwise a bigint: so each value has one form and can be the key of a Map. */
export type Varint = number | bigint;

/** Where reading stands. */
export type Cursor = { offset: number };

const MAX_BYTES = 10;
/** Seven bytes hold 49 bits, which arithmetic on doubles does not round. */
const EXACT_BYTES = 7;

/** Moves the cursor behind a varint and returns its length. Throws a ProtocolError when it does not end, or does not fit into 64 bits. */
export function skipVarint(bytes: Buffer, at: Cursor): number {
  const start = at.offset;
  for (let length = 1; length <= MAX_BYTES; length++) {
    const byte = bytes[at.offset++];
    if (byte === undefined) throw new ProtocolError('the frame ends inside a number');
    if (byte >= 0x80) continue;
    if (length === MAX_BYTES && byte > 1) break;
    return at.offset - start;
  }
  throw new ProtocolError('a number of more than 64 bits');
}

/** Reads a zig-zag LEB128 int64, as `binary.Varint` of Go. Numbers padded with zeros are taken, as Go takes them. Throws a ProtocolError. */
export function readVarint(bytes: Buffer, at: Cursor): Varint {
  const start = at.offset;
  const length = skipVarint(bytes, at);
  if (length > EXACT_BYTES) return readLong(bytes, start, length);
  let zigzag = 0;
  for (let i = length - 1; i >= 0; i--) zigzag = zigzag * 128 + ((bytes[start + i] ?? 0) & 0x7f);
  return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
}

function readLong(bytes: Buffer, start: number, length: number): Varint {
  let zigzag = 0n;
  for (let i = length - 1; i >= 0; i--) zigzag = (zigzag << 7n) | BigInt((bytes[start + i] ?? 0) & 0x7f);
  const value = (zigzag & 1n) === 0n ? zigzag >> 1n : -((zigzag + 1n) >> 1n);
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/** Whether both the number and twice the number are exact as a double. */
const isShort = (value: Varint): value is number => typeof value === 'number' && Math.abs(value) < 2 ** 52;
const zigzagShort = (value: number): number => (value < 0 ? -value * 2 - 1 : value * 2);
const zigzagLong = (value: Varint): bigint => BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));

/** Bytes that `writeVarint` will need. */
export function varintLength(value: Varint): number {
  let length = 1;
  if (isShort(value)) for (let rest = zigzagShort(value); rest >= 128; rest = Math.floor(rest / 128)) length++;
  else for (let rest = zigzagLong(value); rest >= 128n; rest >>= 7n) length++;
  return length;
}

/** Writes the number and returns the offset behind it. */
export function writeVarint(bytes: Buffer, offset: number, value: Varint): number {
  let end = offset;
  if (isShort(value)) {
    let rest = zigzagShort(value);
    for (; rest >= 128; rest = Math.floor(rest / 128)) bytes[end++] = (rest % 128) | 0x80;
    bytes[end++] = rest;
  } else {
    let rest = zigzagLong(value);
    for (; rest >= 128n; rest >>= 7n) bytes[end++] = Number(rest & 0x7fn) | 0x80;
    bytes[end++] = Number(rest);
  }
  return end;
}
