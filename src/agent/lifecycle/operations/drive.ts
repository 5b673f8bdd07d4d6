import { setTimeout as wait } from 'node:timers/promises';
import type { ArtifactSource } from '../artifacts/source.ts';
import type { Facts, Machine } from '../machine/machine.ts';
import type { EngineStep } from './engine-steps.ts';
import type { Execution, Outcome } from './execution.ts';
import type { Journal } from './journal.ts';
import type { OperationState } from './records.ts';
import type { OperationRequest } from './request.ts';
import { runOperation } from './run-operation.ts';
import type { StepContext } from './step.ts';
import type { OperationStore } from './store.ts';

/** What the manager gives to each operation. */
export type Driver = {
  machine: Machine;
  artifacts: ArtifactSource;
  store: OperationStore;
  redact: (text: string) => string;
  say: (step: string, line: string) => void;
  hidden: Set<string>;
  at: () => string;
  pollMs: number;
  signal: AbortSignal;
  contextOf: (request: OperationRequest, facts: Facts, folder: string) => (step: EngineStep) => StepContext;
  /** Keeps what Delete will need of an operation that ends so. May be repeated. */
  keep: (state: OperationState, outcome: Outcome) => Promise<void>;
  onError: (error: unknown) => void;
  patiently: <T>(work: () => Promise<T>) => Promise<T>;
};

/** Takes an operation from where its journal says to its end. False when the agent stops before. */
export async function drive(
  driver: Driver,
  journal: Journal,
  given: { resumed: boolean; facts: () => Promise<Facts>; steps: readonly EngineStep[] },
): Promise<boolean> {
  const { state } = journal;
  const { store, hidden, at, patiently, contextOf } = driver;
  if (state.ended) return true;
  const record: Execution['record'] = (what) => journal.append({ ...what, at: at() });
  const persist: Execution['persist'] = (what) => patiently(() => record(what));
  if (given.resumed) await persist({ kind: 'resumed', step: state.steps.find((step) => step.state === 'Running')?.name });
  const outcome = await runOperation({
    ...driver,
    journal,
    steps: given.steps,
    folder: store.folderOf(state.id),
    context: contextOf(state.request, await patiently(given.facts), store.filesOf(state.id)),
    hide(values) {
      for (const value of values) hidden.add(value);
    },
    record,
    persist,
  });
  if (!outcome) return false;
  await patiently(() => driver.keep(state, outcome));
  driver.say('operation', outcome.message ?? 'succeeded');
  await persist({ kind: 'ended', ...outcome });
  return true;
}

/** For what must not be lost while the disk is full or cannot be written: tried until it works. Rejects only when the agent stops. */
export async function untilDone<T>(
  work: () => Promise<T>,
  given: { signal: AbortSignal; retryMs: number; onError: (error: unknown) => void; makeRoom: () => Promise<void> },
): Promise<T> {
  for (;;) {
    given.signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (given.signal.aborted) throw error;
      given.onError(error);
      await given.makeRoom().catch(() => undefined);
      await wait(given.retryMs, undefined, { signal: given.signal });
    }
  }
}
