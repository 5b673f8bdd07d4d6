import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rename, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { BEFORE_FIRST, type ChainNote, headText, type Position, parseHead, parseLine } from './chain.ts';
import type { Found, Sink } from './sink.ts';
import { copyAside, readTail } from './tail.ts';

type Identity = { dev: bigint; ino: bigint };
type Head = { position: Position } | { problem: string };

const same = (one: Identity | undefined, other: Identity | undefined) => one?.ino === other?.ino && one?.dev === other?.dev;
const isMissing = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT';
const absentIsUndefined = (error: unknown) => {
  if (isMissing(error)) return undefined;
  throw error;
};

/** The name under which something is kept beside the log. */
const beside = (path: string, what: 'torn' | 'aside') =>
  `${path}.${what}-${new Date().toISOString().replaceAll(':', '')}-${randomUUID().slice(0, 8)}`;

async function readHead(path: string, key: Buffer | undefined): Promise<Head> {
  const text = await readFile(`${path}.head`, 'utf8').catch(absentIsUndefined);
  if (text === undefined) return { problem: 'there is no head file' };
  const position = parseHead(text, key);
  return position ? { position } : { problem: 'the head file cannot be read, or was signed with another key' };
}

/** Where the chain goes on after a restart. Where file and head contradict each other the head wins, so that the break stays to be seen. */
function resume(last: Position | undefined, head: Head): Found {
  if ('problem' in head) {
    if (last) return { position: last, notes: [{ note: 'resumed', mismatch: head.problem }] };
    return { position: BEFORE_FIRST, notes: [{ note: 'start', chain: randomUUID() }] };
  }
  const { position } = head;
  if (!last) return { position, notes: [{ note: 'resumed', mismatch: `there are no lines in the file; the head is at ${position.seq}` }] };
  if (last.seq > position.seq || (last.seq === position.seq && last.hash === position.hash)) {
    return { position: last, notes: [{ note: 'resumed' }] };
  }
  return { position, notes: [{ note: 'resumed', mismatch: `the file ends with ${last.seq}, the head is at ${position.seq}` }] };
}

/**
 * A regular file as the destination, and `<path>.head` beside it. Takes the chain up where file and head left it, keeps a torn end in
 * `<path>.torn-*`, and a file that does not end in a line of this chain (another key, other content) in `<path>.aside-*`. A file renamed by
 * log rotation is noticed with the next line. Only one process may write to a path.
 */
export function fileSink(path: string, key: Buffer | undefined): Sink {
  let file: FileHandle | undefined;
  let identity: Identity | undefined;
  /** Bytes of the file that are whole lines of ours. */
  let size = 0;
  /** True when bytes of a refused write may stand behind them. */
  let dirty = false;

  async function release(): Promise<void> {
    const held = file;
    file = undefined;
    await held?.close().catch(() => undefined);
  }

  async function openFile(): Promise<{ opened: FileHandle; bytes: number; id: Identity }> {
    const opened = await open(path, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT, 0o600);
    try {
      const facts = await opened.stat({ bigint: true });
      if (!facts.isFile()) throw new Error(`${path} is not a regular file; - stands for standard output`);
      return { opened, bytes: Number(facts.size), id: { dev: facts.dev, ino: facts.ino } };
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** Moves what follows the last whole line out of the file: the next line would be glued to it. */
  async function keepTorn(opened: FileHandle, wholeBytes: number, bytes: number): Promise<ChainNote[]> {
    size = wholeBytes;
    if (wholeBytes === bytes) return [];
    const target = beside(path, 'torn');
    const copied = await copyAside(opened, wholeBytes, bytes, target);
    await opened.truncate(wholeBytes);
    return [{ note: 'torn', ...copied, keptIn: basename(target) }];
  }

  /** A file that this process has not written to before. */
  async function adopt(opened: FileHandle, bytes: number, known: Position | undefined): Promise<Found | 'setAside'> {
    const { lastLine, hasLines, wholeBytes } = await readTail(opened, bytes);
    const last = lastLine && parseLine(lastLine, key);
    if (hasLines && (!last?.sound || (known && last.hash !== known.hash))) return 'setAside';
    const torn = await keepTorn(opened, wholeBytes, bytes);
    if (known) return { position: known, notes: hasLines ? torn : [{ note: 'rotated' }, ...torn] };
    const found = resume(last, await readHead(path, key));
    return { position: found.position, notes: [...found.notes, ...torn] };
  }

  /** The file that this process wrote to until now. */
  async function compare(opened: FileHandle, bytes: number): Promise<ChainNote[]> {
    const expectedBytes = size;
    if (bytes === expectedBytes) return [];
    if (dirty && bytes > expectedBytes) {
      await opened.truncate(expectedBytes);
      return [];
    }
    const torn = await keepTorn(opened, (await readTail(opened, bytes)).wholeBytes, bytes);
    return [{ note: bytes < expectedBytes ? 'truncated' : 'foreign', expectedBytes, bytes }, ...torn];
  }

  async function ready(known: Position | undefined): Promise<Found> {
    if (file && !same(await stat(path, { bigint: true }).catch(absentIsUndefined), identity)) {
      await file.datasync();
      await release();
    }
    if (file && known) {
      const notes = await compare(file, (await file.stat()).size);
      dirty = false;
      return { position: known, notes };
    }
    const { opened, bytes, id } = await openFile();
    try {
      const found =
        known && same(id, identity) ? { position: known, notes: await compare(opened, bytes) } : await adopt(opened, bytes, known);
      if (found !== 'setAside') {
        dirty = false;
        identity = id;
        file = opened;
        return found;
      }
    } finally {
      if (file !== opened) await opened.close();
    }
    const target = beside(path, 'aside');
    await rename(path, target);
    const { position, notes } = await ready(known);
    const reason = 'the file did not end in a line of this chain, or has another key';
    return { position, notes: [...notes, { note: 'setAside', reason, keptIn: basename(target) }] };
  }

  return {
    ready,
    release,
    append: async (lines) => {
      if (!file) throw new Error(`${path} is not open`);
      dirty = true;
      try {
        for (let out = 0; out < lines.length; ) out += (await file.write(lines, out)).bytesWritten;
      } catch (error) {
        // Whoever reads the file while the disk is full finds whole lines; where this does not work either, the next opening does it.
        await file.truncate(size).then(
          () => {
            dirty = false;
          },
          () => undefined,
        );
        throw error;
      }
      size += lines.length;
      dirty = false;
    },
    settle: async (position) => {
      if (!file) throw new Error(`${path} is not open`);
      // The head must never be ahead of the file: after a power cut that would look like a cut tail.
      await file.datasync();
      const temporary = await open(`${path}.head.new`, 'w', 0o600);
      try {
        await temporary.writeFile(headText(position, key));
        await temporary.datasync();
      } finally {
        await temporary.close();
      }
      await rename(`${path}.head.new`, `${path}.head`);
    },
  };
}
