import { TargetError } from '../target-error.ts';

/** Text of an error frame that means the clean end. */
export const EOF = 'EOF';
/** Text of an error frame: the agent's policy says no. */
export const NOT_ALLOWED = 'connect not allowed';

/** Peers read no more of an error frame. */
const SENT_BYTES = 100;
const READ_BYTES = 300;

/** What the peer is told, at most 100 bytes. Only errors that are made for others to read are passed on. */
export function textOf(error: Error | null): Buffer {
  if (!error) return Buffer.from(EOF);
  if (!(error instanceof TargetError)) return Buffer.from('connection closed');
  const text = Buffer.from(error.code === 403 ? `${NOT_ALLOWED}: ${error.message}` : error.message);
  if (text.length <= SENT_BYTES) return text;
  let end = SENT_BYTES;
  while (((text[end] ?? 0) & 0xc0) === 0x80) end--;
  return text.subarray(0, end);
}

/** The text of an error frame, without what would disturb a terminal or a log. */
export function readText(payload: Buffer): string {
  return payload.subarray(0, READ_BYTES).toString('utf8').replace(/\p{C}/gu, ' ').trim();
}

/** The error of a connection to `address` that the peer ended with `text`. */
export function errorOf(text: string, address: string): TargetError {
  const message = `${address}: ${text || 'closed without a reason'}`;
  if (text.startsWith(NOT_ALLOWED)) return new TargetError(403, message);
  return new TargetError(/time(d )?-?out|deadline exceeded/i.test(text) ? 504 : 502, message);
}
