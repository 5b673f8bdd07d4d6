import { isConflict, isNotFound, KubeUnreachableError } from '../../../kube/errors.ts';
import type { NodeOperationStatus, Phase } from '../schema.ts';
import { isFinal, type Operation, type OperationStore } from './store.ts';

/** This replica may no longer act on the operation: another one holds it, or leadership is lost. Nothing may be written or called after it. */
export class FencedError extends Error {
  override name = 'FencedError';
}

/** The operation was cancelled before the cloud was called. */
export class CancelledError extends Error {
  override name = 'CancelledError';
}

/** One operation in the hands of the replica that runs it. Each change is a compare-and-swap on its ConfigMap. */
export type OperationRecord = {
  readonly operation: Operation;
  readonly status: NodeOperationStatus;
  /**
   * Writes what `change` makes of the newest status. Throws FencedError when another replica holds the operation; with `cancellable`, CancelledError when
   * somebody asked to cancel. Waits out an API server that is away, until the signal is aborted.
   */
  save(change: (status: NodeOperationStatus) => NodeOperationStatus, options?: { cancellable?: boolean }): Promise<void>;
  /** A new phase, with its line in the history. */
  enter(phase: Phase, message: string, more?: Partial<NodeOperationStatus>, options?: { cancellable?: boolean }): Promise<void>;
  /** Takes in what a watch has seen. */
  observe(operation: Operation): void;
};

export function enterPhase(status: NodeOperationStatus, phase: Phase, message: string, now = new Date()): NodeOperationStatus {
  const time = now.toISOString();
  return {
    ...status,
    phase,
    message,
    ...(isFinal(phase) && { completionTime: time }),
    history: [...(status.history ?? []), { phase, time, message }],
  };
}

export function operationRecord(options: {
  store: OperationStore;
  operation: Operation;
  holder: string;
  signal: AbortSignal;
  /** Waits before a write is tried again. */
  pause: () => Promise<void>;
}): OperationRecord {
  const { store, holder, signal } = options;
  let operation = options.operation;

  const save: OperationRecord['save'] = async (change, { cancellable = false } = {}) => {
    for (let tries = 0; ; tries++) {
      // The first try is made also while the process ends, so that the outcome of a call that was in flight is not lost; the compare-and-swap guards it.
      if (tries > 0 && signal.aborted) throw new FencedError('leadership is lost');
      if (operation.status.holder !== undefined && operation.status.holder !== holder)
        throw new FencedError(`${operation.status.holder} runs it`);
      if (isFinal(operation.status.phase)) throw new FencedError('it has ended');
      if (cancellable && operation.status.cancelRequested) throw new CancelledError(operation.status.cancelRequested);
      try {
        operation = await store.update(operation, change(operation.status));
        return;
      } catch (error) {
        if (isNotFound(error)) throw new FencedError('it was deleted');
        if (!isConflict(error) && !(error instanceof KubeUnreachableError) && !isServerTrouble(error)) throw error;
        if (!isConflict(error)) await options.pause();
        // A lost answer may hide a write that succeeded: reading it again shows either, and the change is made on what is there.
        const fresh = await reread();
        if (fresh) operation = fresh;
      }
    }
  };

  async function reread(): Promise<Operation | undefined> {
    try {
      return await store.get(operation.metadata.name);
    } catch (error) {
      if (isNotFound(error)) throw new FencedError('it was deleted');
      return undefined;
    }
  }

  return {
    get operation() {
      return operation;
    },
    get status() {
      return operation.status;
    },
    save,
    enter: (phase, message, more = {}, saveOptions = {}) =>
      save((status) => {
        // After a lost answer the phase may stand there already.
        if (status.phase === phase && status.message === message) return { ...status, ...more };
        return enterPhase({ ...status, ...more }, phase, message);
      }, saveOptions),
    observe(seen) {
      if (BigInt(seen.metadata.resourceVersion) > BigInt(operation.metadata.resourceVersion)) operation = seen;
    },
  };
}

const isServerTrouble = (error: unknown) =>
  error instanceof Error && 'code' in error && typeof error.code === 'number' && (error.code === 429 || error.code >= 500);
