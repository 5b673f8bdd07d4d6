import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

const CHUNK_BYTES = 65_536;
/** No line of ours is this long; a longer one is not read into memory. */
export const MAX_LINE_BYTES = 1_048_576;

async function readAt(file: FileHandle, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.alloc(to - from);
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, from + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

/** The offset after the last newline before `end`; 0 when there is none. */
async function lineStart(file: FileHandle, end: number): Promise<number> {
  for (let to = end; to > 0; ) {
    const from = Math.max(0, to - CHUNK_BYTES);
    const at = (await readAt(file, from, to)).lastIndexOf(0x0a);
    if (at >= 0) return from + at + 1;
    to = from;
  }
  return 0;
}

/** How a file ends: its last whole line without the newline (undefined: there is none, or it is too long), and where the torn rest begins. */
export type Tail = { lastLine: Buffer | undefined; hasLines: boolean; wholeBytes: number };

export async function readTail(file: FileHandle, size: number): Promise<Tail> {
  const wholeBytes = await lineStart(file, size);
  if (wholeBytes === 0) return { lastLine: undefined, hasLines: false, wholeBytes };
  const start = await lineStart(file, wholeBytes - 1);
  const fits = wholeBytes - start <= MAX_LINE_BYTES;
  return { lastLine: fits ? await readAt(file, start, wholeBytes - 1) : undefined, hasLines: true, wholeBytes };
}

/** Copies what stands from `from` to `size` into a new file, durably. Bounded memory. */
export async function copyAside(file: FileHandle, from: number, size: number, target: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  const copy = await open(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    for (let at = from; at < size; at += CHUNK_BYTES) {
      const chunk = await readAt(file, at, Math.min(size, at + CHUNK_BYTES));
      hash.update(chunk);
      await copy.appendFile(chunk);
    }
    await copy.datasync();
  } finally {
    await copy.close();
  }
  return { bytes: size - from, sha256: hash.digest('hex') };
}
