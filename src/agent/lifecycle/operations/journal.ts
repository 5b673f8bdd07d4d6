import { readFile } from 'node:fs/promises';
import type { LifecycleOperation } from '../../../kube/lifecycle.ts';
import { checkedLine, checkedValue } from './checked-line.ts';
import type { Disk } from './disk.ts';
import { apply, type BeginRecord, type JournalRecord, type OperationState, shown, stateOf } from './records.ts';

/** The records of one operation. `state` is what has reached the disk. */
export type Journal = {
  path: string;
  state: OperationState;
  /** Resolves when the record is on disk; rejects when it is not, and then nothing of it counts. One at a time. */
  append(record: JournalRecord): Promise<void>;
};

/** A journal that is damaged before its last line: what was done cannot be known from it. */
export class JournalDamaged extends Error {
  readonly path: string;
  /** What the lines before say; undefined when not even the first is whole. */
  readonly state: OperationState | undefined;

  constructor(path: string, before: readonly JournalRecord[]) {
    const line = before.length + 1;
    super(`the journal ${path} is damaged in line ${line}: what the operation did cannot be known from it`);
    this.name = 'JournalDamaged';
    this.path = path;
    this.state = replay(before);
  }
}

/** What can still be told of an operation with a damaged journal. */
export function damagedOperation(message: string, error: unknown): LifecycleOperation {
  const failed = { phase: 'Failed' as const, message };
  if (!(error instanceof JournalDamaged)) return { id: 'unknown', type: 'Repair', ...failed, steps: [] };
  return {
    id: 'unknown',
    type: 'Repair',
    steps: [],
    ...(error.state && shown(error.state)),
    ...failed,
    nextCommand: `mv ${error.path} ${error.path}.damaged`,
  };
}

/** The file is there whole, with its first record, or not at all. */
export async function createJournal(disk: Disk, path: string, begin: BeginRecord): Promise<Journal> {
  const line = checkedLine(begin);
  await disk.replace(path, line);
  return journalAt(disk, path, Buffer.byteLength(line), stateOf(begin));
}

/** Undefined when not even the first record is whole: then nothing was begun. Throws JournalDamaged. */
export async function openJournal(disk: Disk, path: string): Promise<Journal | undefined> {
  const { records, length } = parseJournal(await readFile(path), path);
  const state = replay(records);
  return state && journalAt(disk, path, length, state);
}

function replay([begin, ...more]: readonly JournalRecord[]): OperationState | undefined {
  if (begin?.kind !== 'begin') return undefined;
  const state = stateOf(begin);
  for (const record of more) apply(state, record);
  return state;
}

/**
 * The records of a journal, and the length in bytes of the part that is whole. A last line that is cut off or does not fit its checksum is what a power cut left, and is
 * dropped; such a line anywhere else throws JournalDamaged.
 */
export function parseJournal(bytes: Buffer, path: string): { records: JournalRecord[]; length: number } {
  const records: JournalRecord[] = [];
  let length = 0;
  while (length < bytes.length) {
    const end = bytes.indexOf('\n', length);
    const value = end < 0 ? undefined : checkedValue(bytes.toString('utf8', length, end));
    if (value === undefined) {
      if (end >= 0 && end + 1 < bytes.length) throw new JournalDamaged(path, records);
      break;
    }
    // What fits its checksum was written below.
    records.push(value as JournalRecord);
    length = end + 1;
  }
  return { records, length };
}

function journalAt(disk: Disk, path: string, start: number, state: OperationState): Journal {
  let length = start;
  return {
    path,
    state,
    async append(record) {
      const line = checkedLine(record);
      await disk.writeAt(path, length, line);
      length += Buffer.byteLength(line);
      apply(state, record);
    },
  };
}
