import { setTimeout as sleep } from 'node:timers/promises';
import { isConflict, isNotFound } from '../../../kube/errors.ts';
import type { Leadership } from '../../../kube/leader-election.ts';
import { keepHouse } from './housekeeping.ts';
import { activeIn, LEDGER_NAME } from './ledger.ts';
import type { Kept, OperationsCache } from './operations-cache.ts';
import { FencedError, type OperationRecord, operationRecord } from './record.ts';
import { runOperation } from './run.ts';
import type { RunDependencies } from './run-context.ts';
import { isFinal, type Operation, type OperationStore } from './store.ts';

export type RunnerOptions = RunDependencies & {
  store: OperationStore;
  cache: OperationsCache;
  /** Written into each operation that this replica runs. */
  identity: string;
};

const HOUSEKEEPING_MS = 10_000;

/** Runs all operations for as long as this replica leads: those that it finds half done, and those that come. Resolves when the last has been let go. */
export async function runOperations(leadership: Leadership, options: RunnerOptions): Promise<void> {
  const { cache, metrics, onError } = options;
  const running = new Map<string, { record: OperationRecord | undefined; task: Promise<void> }>();
  let admitted: ReadonlySet<string> = new Set();

  function consider(operation: Operation): void {
    const { name } = operation.metadata;
    const known = running.get(name);
    if (known) {
      known.record?.observe(operation);
      return;
    }
    if (isFinal(operation.status.phase) || leadership.signal.aborted || !isAdmitted(operation)) return;
    const entry: { record: OperationRecord | undefined; task: Promise<void> } = { record: undefined, task: Promise.resolve() };
    running.set(name, entry);
    metrics.active.set(running.size);
    entry.task = run(operation, (record) => {
      entry.record = record;
    })
      .catch((error: unknown) => {
        if (!(error instanceof FencedError)) onError(error);
      })
      .finally(() => {
        running.delete(name);
        metrics.active.set(running.size);
        // Let go without having ended (the API server refused a write, for example): taken up again while this replica leads.
        const now = cache.operation(name);
        if (now && !isFinal(now.status.phase) && !leadership.signal.aborted) retryLater(name);
      });
  }

  /** Its ConfigMap may be there before the ledger names it, or without the ledger ever doing so. Who was run once was admitted. */
  function isAdmitted(operation: Operation): boolean {
    return operation.status.holder !== undefined || admitted.has(operation.metadata.name);
  }

  function readLedger(kept: Kept | undefined): void {
    admitted = new Set(kept && 'ledger' in kept ? activeIn(kept.ledger).map(({ name }) => name) : []);
    for (const operation of cache.operations()) if (!isFinal(operation.status.phase)) consider(operation);
  }

  function retryLater(name: string): void {
    sleep(1_000, undefined, { signal: leadership.signal })
      .then(() => {
        const operation = cache.operation(name);
        if (operation) consider(operation);
      })
      .catch(() => undefined);
  }

  async function run(operation: Operation, started: (record: OperationRecord) => void): Promise<void> {
    const claimed = await claim(operation);
    if (!claimed) return;
    const pause = () => sleep(500, undefined, { signal: leadership.signal }).catch(() => undefined);
    const record = operationRecord({
      store: options.store,
      operation: claimed,
      holder: options.identity,
      signal: leadership.signal,
      pause,
    });
    started(record);
    await runOperation(record, leadership, options);
  }

  /** Makes this replica the holder, so that a former one fails its next compare-and-swap. Undefined when there is nothing left to do. */
  async function claim(operation: Operation): Promise<Operation | undefined> {
    let fresh = false;
    for (let current = operation; ; ) {
      if (isFinal(current.status.phase)) return undefined;
      if (leadership.signal.aborted) throw new FencedError('leadership is lost');
      // What the cache says may be from before the last writes of this same replica; only a write or a read shows what stands there.
      if (fresh && current.status.holder === options.identity) return current;
      try {
        if (current.status.holder !== options.identity) {
          const startTime = current.status.startTime ?? new Date().toISOString();
          return await options.store.update(current, { ...current.status, holder: options.identity, startTime });
        }
      } catch (error) {
        if (!isConflict(error)) throw error;
      }
      try {
        current = await options.store.get(current.metadata.name);
        fresh = true;
      } catch (missing) {
        if (isNotFound(missing)) return undefined;
        throw missing;
      }
    }
  }

  await cache.ready(leadership.signal);
  await options.directory.cache.ready(leadership.signal);
  cache.onChange(({ name, object }) => {
    if (name === undefined || name === LEDGER_NAME) readLedger(cache.get(LEDGER_NAME));
    else if (object && 'operation' in object) consider(object.operation);
  }, leadership.signal);
  readLedger(cache.get(LEDGER_NAME));

  while (!leadership.signal.aborted) {
    await keepHouse({ ...options, running: new Set(running.keys()) }).catch(onError);
    await sleep(HOUSEKEEPING_MS, undefined, { signal: leadership.signal }).catch(() => undefined);
  }
  await Promise.all([...running.values()].map((entry) => entry.task));
}
