import { createReadStream } from 'node:fs';
import { entryProblem, FIRST_PREVIOUS, followProblem } from '../../../kube/audit-chain.ts';
import type { AuditEntry } from '../../../kube/lifecycle.ts';

/** A place in the chain: the number of an entry and its hash. */
export type Position = { sequence: number; hash: string };
export const BEFORE_FIRST: Position = { sequence: 0, hash: FIRST_PREVIOUS };

/** Something in the file that is not as it was written. `line` counts from 1. */
export type ChainBreak = { line: number; sequence: number; why: string };

/** What a file of entries holds. */
export type AuditFile = {
  /** Of the last entry that is sound in itself; BEFORE_FIRST when there is none. */
  last: Position;
  /** In the order of the file, at most MAX_BREAKS. */
  breaks: ChainBreak[];
  /** Where the last whole line ends; what follows was torn by a crash while it was written. */
  wholeBytes: number;
  tornBytes: number;
};

/** An edit of many lines must not fill the memory. */
const MAX_BREAKS = 32;
/** No entry of ours is so long; a longer line is not kept in memory. */
const MAX_LINE = 65_536;

/** The line of an entry, as it stands in the file. */
export const lineOf = (entry: AuditEntry): string => `${JSON.stringify(entry)}\n`;

/** The whole lines of a file, from the byte `start` on, with the offset behind each; none when there is no file. A line that is too long comes as ''. */
export async function* auditLines(path: string, start = 0): AsyncGenerator<{ text: string; end: number }> {
  let parts: Buffer[] = [];
  let length = 0;
  let offset = start;
  try {
    for await (const chunk of createReadStream(path, { start }) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(0x0a); at >= 0; at = chunk.indexOf(0x0a, from)) {
        length += at - from;
        if (length <= MAX_LINE) parts.push(chunk.subarray(from, at));
        yield { text: length <= MAX_LINE ? Buffer.concat(parts).toString('utf8') : '', end: offset + at + 1 };
        parts = [];
        length = 0;
        from = at + 1;
      }
      length += chunk.length - from;
      if (length <= MAX_LINE) parts.push(chunk.subarray(from));
      offset += chunk.length;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** A line as a value; undefined when it is not JSON. */
export function parseLine(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Reads a file of entries from its beginning in bounded memory and tells everything that is wrong with it. After a break the chain is taken up again at what the entry
 * there says of itself, so that what stands behind an edit is judged too.
 */
export async function readAuditFile(path: string, size: number, onEntry?: (entry: AuditEntry) => void): Promise<AuditFile> {
  const breaks: ChainBreak[] = [];
  let last = BEFORE_FIRST;
  let line = 0;
  let wholeBytes = 0;
  for await (const { text, end } of auditLines(path)) {
    line++;
    wholeBytes = end;
    const value = parseLine(text);
    const problem = entryProblem(value);
    if (problem !== undefined) {
      if (breaks.length < MAX_BREAKS) breaks.push({ line, sequence: last.sequence + 1, why: problem });
      // Its place is taken, as far as that can be believed.
      const { sequence, hash } = (value ?? {}) as Partial<AuditEntry>;
      if (sequence === last.sequence + 1 && typeof hash === 'string') last = { sequence, hash };
      continue;
    }
    const entry = value as AuditEntry;
    const misplaced = followProblem(entry, last) ?? (lineOf(entry) === `${text}\n` ? undefined : 'its text was edited');
    if (misplaced !== undefined && breaks.length < MAX_BREAKS) breaks.push({ line, sequence: last.sequence + 1, why: misplaced });
    last = { sequence: entry.sequence, hash: entry.hash };
    onEntry?.(entry);
  }
  return { last, breaks, wholeBytes, tornBytes: Math.max(0, size - wholeBytes) };
}
