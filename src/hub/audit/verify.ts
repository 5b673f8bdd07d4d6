import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { BEFORE_FIRST, NOTE_KIND, type Position, parseHead, parseLine } from './chain.ts';
import { MAX_LINE_BYTES } from './tail.ts';

export type BreakKind = 'edited' | 'missing' | 'reordered' | 'cutAtBeginning' | 'cutAtEnd' | 'torn' | 'noHead';

/** The first place where the file is not what was written. `line` counts from 1. */
export type Break = { line: number; kind: BreakKind; detail: string };

export type VerifyOptions = {
  /** The key of the chain, when it has one. */
  key?: Buffer;
  /** The end of the file before this one, after log rotation. Without it the file must begin with the beginning of a chain. */
  after?: Position;
  /** False: the end of the file is not held against `<path>.head` (a rotated file, a copy of standard output), so a cut end is not found. Default true. */
  head?: boolean;
};

export type Verdict = {
  ok: boolean;
  /** Whole lines read. */
  lines: number;
  /** Where the file ends; undefined when it has no sound line. Give it as `after` for the next file. */
  last?: Position;
  firstBreak?: Break;
  /** The lines that the log wrote about itself (start, resumed, outage and so on): the text of the first hundred. */
  notes: { line: number; json: string }[];
};

const MAX_NOTES = 100;
const NOTE_START = Buffer.from(`{"kind":"${NOTE_KIND}"`);

/** The lines of a file without their newlines, and last what follows the last newline with `torn`. A line beyond the bound is cut (and so fails). */
async function* linesOf(path: string): AsyncGenerator<{ line: Buffer; torn: boolean }> {
  let parts: Buffer[] = [];
  let length = 0;
  const keep = (part: Buffer) => {
    if (length <= MAX_LINE_BYTES) parts.push(part);
    length += part.length;
  };
  for await (const chunk of createReadStream(path, { highWaterMark: 262_144 }) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(0x0a); at >= 0; at = chunk.indexOf(0x0a, from)) {
      keep(chunk.subarray(from, at));
      yield { line: Buffer.concat(parts), torn: false };
      parts = [];
      length = 0;
      from = at + 1;
    }
    keep(chunk.subarray(from));
  }
  if (length > 0) yield { line: Buffer.concat(parts), torn: true };
}

type Jump = { line: number; expected: number; found: number };

/** A number that is left out here and comes later was moved, not removed. */
function explainJump({ line, expected, found }: Jump, foundLater: boolean): Break {
  if (found < expected)
    return { line, kind: 'reordered', detail: `number ${found} comes again or too late; ${expected} should stand here` };
  if (foundLater) return { line, kind: 'reordered', detail: `number ${found} stands here, ${expected} comes later` };
  if (expected === 0)
    return { line, kind: 'cutAtBeginning', detail: `the file begins with number ${found}; give the file before it, if there is one` };
  return { line, kind: 'missing', detail: `numbers ${expected} to ${found - 1} are missing` };
}

async function readHead(path: string, key: Buffer | undefined): Promise<{ head?: Position; problem?: string }> {
  const name = `${path}.head`;
  const text = await readFile(name, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return { problem: `${name} is missing: the end of the file cannot be proved` };
  const head = parseHead(text, key);
  return head ? { head } : { problem: `${name} was edited, or signed with another key` };
}

/**
 * Reads an audit log from its beginning and finds the first break of its chain, in bounded memory. The log may be in use: the head is read
 * first, and lines behind it are checked like the others; a line that is being written at that moment can show as torn. Rejects with the system's error when the file cannot be read.
 */
export async function verifyChain(path: string, options: VerifyOptions = {}): Promise<Verdict> {
  const { key, after, head: useHead = true } = options;
  const { head, problem } = useHead ? await readHead(path, key) : {};
  const notes: Verdict['notes'] = [];
  let position = after ?? BEFORE_FIRST;
  let lines = 0;
  let firstBreak: Break | undefined;
  let jump: Jump | undefined;
  let foundLater = false;

  function check(line: Buffer): Break | undefined {
    const parsed = parseLine(line, key);
    if (!parsed) return { line: lines, kind: 'edited', detail: 'this is not a line of an audit chain' };
    if (!parsed.sound)
      return { line: lines, kind: 'edited', detail: `the hash of number ${parsed.seq} does not fit the line${key ? ' and the key' : ''}` };
    const expected = position.seq + 1;
    if (parsed.seq !== expected) {
      jump = { line: lines, expected, found: parsed.seq };
      return undefined;
    }
    if (parsed.prev !== position.hash) {
      return {
        line: lines,
        kind: 'edited',
        detail: `number ${parsed.seq} does not follow the line before it: one of the two was replaced`,
      };
    }
    position = { seq: parsed.seq, hash: parsed.hash };
    if (head?.seq === parsed.seq && head.hash !== parsed.hash) {
      return { line: lines, kind: 'edited', detail: `number ${parsed.seq} is not the line that the head file knows` };
    }
    return undefined;
  }

  for await (const { line, torn } of linesOf(path)) {
    if (torn) {
      if (!jump) firstBreak = { line: lines + 1, kind: 'torn', detail: `${line.length} bytes without an end of line` };
      break;
    }
    lines++;
    if (jump) {
      const parsed = parseLine(line, key);
      foundLater ||= parsed?.sound === true && parsed.seq === jump.expected;
      continue;
    }
    if (notes.length < MAX_NOTES && line.subarray(0, NOTE_START.length).equals(NOTE_START))
      notes.push({ line: lines, json: line.toString() });
    firstBreak = check(line);
    if (firstBreak) break;
  }
  if (jump) firstBreak = explainJump(jump, foundLater);
  // A torn end that the head knows to have been whole was cut, not left behind by a crash.
  if (head && head.seq > position.seq && (!firstBreak || firstBreak.kind === 'torn')) {
    firstBreak = { line: lines + 1, kind: 'cutAtEnd', detail: `the file ends with number ${position.seq}, the head is at ${head.seq}` };
  }
  if (!firstBreak && problem !== undefined) firstBreak = { line: lines, kind: 'noHead', detail: problem };
  const last = position === BEFORE_FIRST ? undefined : position;
  return { ok: firstBreak === undefined, lines, ...(last && { last }), ...(firstBreak && { firstBreak }), notes };
}
