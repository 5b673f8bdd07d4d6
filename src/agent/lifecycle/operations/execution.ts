import type { ArtifactSource } from '../artifacts/source.ts';
import type { Machine } from '../machine/machine.ts';
import type { EngineStep } from './engine-steps.ts';
import type { Journal } from './journal.ts';
import type { JournalRecord } from './records.ts';
import type { StepContext } from './step.ts';

type WithoutTime<R> = R extends { at: string } ? Omit<R, 'at'> : never;
/** A record to be; the time is put in when it is written. */
export type NewRecord = WithoutTime<JournalRecord>;

/** Everything that running one operation needs. */
export type Execution = {
  journal: Journal;
  steps: readonly EngineStep[];
  machine: Machine;
  artifacts: ArtifactSource;
  /** The operation's own folder: `before`, `files`, `stage`. */
  folder: string;
  context(step: EngineStep): StepContext;
  /** One line of the log. */
  say(step: string, line: string): void;
  /** Text that may be shown and kept. */
  redact(text: string): string;
  /** Values that must be hidden from now on. */
  hide(values: readonly string[]): void;
  /** Rejects when the disk does not take it. */
  record(record: NewRecord): Promise<void>;
  /** Tries until the disk takes it. Rejects only when `signal` has aborted. */
  persist(record: NewRecord): Promise<void>;
  /** Milliseconds between two questions of an action `wait`. */
  pollMs: number;
  /** The agent stops: what runs is ended, nothing is undone. */
  signal: AbortSignal;
};

/** How an operation ended. `message` and `nextCommand` are for a person. */
export type Outcome = { phase: 'Succeeded' | 'Failed'; message?: string; nextCommand?: string };
