import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Position } from './audit-file.ts';

/** Two slots that are written in turn, so that a write which a power cut tears leaves the one before. */
const SLOT_BYTES = 256;

/** Where the chain ends, beside the chain: by the chain alone nobody can see that its end was cut. */
export type Head = {
  /** undefined: there was none, or what was there is not what this wrote. */
  found: Position | undefined;
  /** Whether there was a file with something in it. */
  existed: boolean;
  /** Durable when it resolves. Needs no new room on the disk. */
  write(position: Position): Promise<void>;
  close(): Promise<void>;
};

const checksum = ({ sequence, hash }: Position) => createHash('sha256').update(`head ${sequence} ${hash}`).digest('hex');

/** Opens the file, and makes it when there is none. Rejects with the system's error. */
export async function openHead(path: string): Promise<Head> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    const { size } = await file.stat();
    const slots = await Promise.all([0, 1].map((slot) => readSlot(file, slot)));
    const [found] = slots.filter((slot) => slot !== undefined).sort((a, b) => b.sequence - a.sequence);
    if (size !== 2 * SLOT_BYTES) {
      await file.truncate(0);
      await file.write(Buffer.alloc(2 * SLOT_BYTES, ' '), 0, 2 * SLOT_BYTES, 0);
      await file.sync();
      if (found) await writeSlot(file, found);
    }
    return { found, existed: size > 0, write: (position) => writeSlot(file, position), close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readSlot(file: FileHandle, slot: number): Promise<Position | undefined> {
  const buffer = Buffer.alloc(SLOT_BYTES);
  const { bytesRead } = await file.read(buffer, 0, SLOT_BYTES, slot * SLOT_BYTES);
  const match = /^(\d{1,15}) ([0-9a-f]{64}) ([0-9a-f]{64}) *\n$/.exec(buffer.toString('latin1', 0, bytesRead));
  const [, sequence, hash, sum] = match ?? [];
  if (sequence === undefined || hash === undefined || sum === undefined) return undefined;
  const position = { sequence: Number(sequence), hash };
  return checksum(position) === sum ? position : undefined;
}

async function writeSlot(file: FileHandle, position: Position): Promise<void> {
  const text = `${position.sequence} ${position.hash} ${checksum(position)}`.padEnd(SLOT_BYTES - 1);
  const at = (position.sequence % 2) * SLOT_BYTES;
  const { bytesWritten } = await file.write(Buffer.from(`${text}\n`, 'latin1'), 0, SLOT_BYTES, at);
  if (bytesWritten !== SLOT_BYTES) throw new Error('the place of the last entry could not be written');
  await file.datasync();
}
