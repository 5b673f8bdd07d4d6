import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** A place in the chain: the number of a line and its hash (64 hex digits). */
export type Position = { seq: number; hash: string };

/** What stands before the first line of a chain. */
export const BEFORE_FIRST: Position = { seq: -1, hash: '0'.repeat(64) };

/** A line of the chain, taken apart. `sound`: its hash fits its own bytes. That it fits the line before is for the reader to compare. */
export type ChainLine = Position & { prev: string; sound: boolean };

/** What the log says about itself, as lines of the chain between those of requests. */
export type ChainNote =
  | { note: 'start'; chain: string }
  | { note: 'resumed'; mismatch?: string }
  | { note: 'rotated' }
  | { note: 'torn'; bytes: number; sha256: string; keptIn: string }
  | { note: 'setAside'; reason: string; keptIn: string }
  | { note: 'truncated'; expectedBytes: number; bytes: number }
  | { note: 'foreign'; expectedBytes: number; bytes: number }
  | { note: 'outage'; since: string; until: string; problem: string; lost: number };

export const NOTE_KIND = 'ChainNote';
const HASH_PART = /,"seq":(0|[1-9]\d{0,15}),"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"\}$/;
const HASH_SUFFIX_BYTES = ',"hash":""}'.length + 64;
/** Longer than what HASH_PART can match. */
const TAIL_BYTES = 256;

function digest(prev: string, body: readonly (string | Buffer)[], key: Buffer | undefined): string {
  const hash = key ? createHmac('sha256', key) : createHash('sha256');
  hash.update(prev);
  for (const part of body) hash.update(part);
  return hash.digest('hex');
}

/**
 * The line that follows `after`, with its newline: the JSON object `json` plus `seq`, `prev` and `hash`. The hash is SHA-256 (with a key:
 * HMAC-SHA-256) over the hash before and the exact bytes of the line without its own hash, so no canonical form has to be agreed on.
 */
export function seal(json: string, after: Position, key: Buffer | undefined): { line: string; position: Position } {
  const seq = after.seq + 1;
  const body = `${json.slice(0, -1)},"seq":${seq},"prev":"${after.hash}"`;
  const hash = digest(after.hash, [body, '}'], key);
  return { line: `${body},"hash":"${hash}"}\n`, position: { seq, hash } };
}

/** Takes a line (without its newline) apart; undefined when it is no line of a chain. Looks at bytes, not at decoded text: decoding hides edits. */
export function parseLine(line: Buffer, key: Buffer | undefined): ChainLine | undefined {
  const match = HASH_PART.exec(line.subarray(-TAIL_BYTES).toString('latin1'));
  const [, seq, prev, hash] = match ?? [];
  if (line[0] !== 0x7b || seq === undefined || prev === undefined || hash === undefined) return undefined;
  const sound = digest(prev, [line.subarray(0, line.length - HASH_SUFFIX_BYTES), '}'], key) === hash;
  return { seq: Number(seq), prev, hash, sound };
}

export function noteJson(note: ChainNote, at: Date): string {
  const { note: name, ...facts } = note;
  return JSON.stringify({ kind: NOTE_KIND, apiVersion: 'audit.infraops.michael.io/v1', note: name, time: at.toISOString(), ...facts });
}

const headMac = ({ seq, hash }: Position, key: Buffer) => createHmac('sha256', key).update(`head ${seq} ${hash}`).digest();

/** The text of the head file: the last line that is safely on disk. With a key it is signed too. */
export function headText(position: Position, key: Buffer | undefined): string {
  const { seq, hash } = position;
  return `${JSON.stringify({ seq, hash, ...(key && { mac: headMac(position, key).toString('hex') }) })}\n`;
}

/** The position in a head file; undefined when the text is none, or not signed with this key. */
export function parseHead(text: string, key: Buffer | undefined): Position | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { seq, hash, mac } = value as { seq?: unknown; hash?: unknown; mac?: unknown };
  if (typeof seq !== 'number' || !Number.isSafeInteger(seq) || seq < 0) return undefined;
  if (typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash)) return undefined;
  const position = { seq, hash };
  if (key) {
    const given = Buffer.from(typeof mac === 'string' ? mac : '', 'hex');
    const right = headMac(position, key);
    if (given.length !== right.length || !timingSafeEqual(given, right)) return undefined;
  }
  return position;
}
