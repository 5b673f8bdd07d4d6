import { type Cloud, CloudError } from '../clouds/cloud.ts';
import type { InstanceRef } from '../clouds/provider-id.ts';
import type { CloudCall, NodeOperationStatus } from '../schema.ts';
import { FencedError, type OperationRecord } from './record.ts';

export type CallAction = CloudCall['action'];

/** The operation cannot go on; `reason` is one word for `status.reason`. */
export class OperationError extends Error {
  override name = 'OperationError';
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

export type CloudCallOptions = {
  record: OperationRecord;
  cloud: Cloud;
  ref: InstanceRef;
  action: CallAction;
  /** Whether this replica still leads, by its own clock. */
  holds: () => boolean;
  /** How old the written intent may be when the bytes leave; a process that was frozen in between must not send any more. */
  fenceMs: number;
  /** Whether there is evidence that an earlier call of this action took effect. Asked repeatedly while the outcome is unknown. */
  happened: () => Promise<boolean>;
  /** How long evidence is waited for before the call is repeated. */
  evidenceMs: number;
  pollMs: number;
  /** Waits for so long or until something about the node changes; rejects when the operation must stop. */
  pause: (ms: number) => Promise<void>;
  /** Milliseconds left for the operation. */
  leftMs: () => number;
  signal: AbortSignal;
};

const RETRY_MS = [1_000, 2_000, 5_000, 10_000, 20_000, 30_000];

const lastCall = (status: NodeOperationStatus, action: CallAction) => status.calls?.findLast((call) => call.action === action);

function withCall(status: NodeOperationStatus, call: CloudCall): NodeOperationStatus {
  const calls = (status.calls ?? []).filter((other) => other.action !== call.action || other.attempt !== call.attempt);
  return { ...status, calls: [...calls, call] };
}

/**
 * Gets one call through to the cloud, at most once as far as anybody can know. The intent is written (compare-and-swap) before the call and its outcome
 * after it. Whoever finds an intent without an outcome, here or after a crash, first looks for evidence that it took effect, and repeats it only when there
 * has been none for `evidenceMs`. Refusals that surely had no effect are repeated with growing pauses while they can pass (throttling, connection
 * refused) and end the operation otherwise.
 */
export async function callCloud(options: CloudCallOptions): Promise<void> {
  const { record, action } = options;
  for (let failures = 0; ; failures++) {
    const last = lastCall(record.status, action);
    if (last?.state === 'Accepted') return;
    if (last?.state === 'Sending' || last?.state === 'Unknown') {
      if (await evidence(options)) {
        await record.save((status) =>
          withCall(status, {
            ...last,
            state: 'Accepted',
            time: new Date().toISOString(),
            message: 'the machine shows that it took effect',
          }),
        );
        return;
      }
    }
    const attempt = (last?.attempt ?? 0) + 1;
    const error = await send(options, attempt);
    if (!error) return;
    const state = error.mayHaveHappened ? 'Unknown' : 'Refused';
    await record.save((status) =>
      withCall(
        { ...status, message: `${action}: ${error.message}` },
        { action, attempt, state, time: new Date().toISOString(), code: error.code, message: error.message },
      ),
    );
    if (state === 'Unknown') continue;
    if (error.kind !== 'Throttled' && error.kind !== 'Transient')
      throw new OperationError(`Cloud${error.kind}`, `${action}: ${error.message}`);
    const wait =
      error.retryAfterSeconds !== undefined
        ? error.retryAfterSeconds * 1000
        : (RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 30_000);
    if (wait >= options.leftMs())
      throw new OperationError(`Cloud${error.kind}`, `${action}: ${error.message}; there is no time left to try again`);
    await options.pause(wait);
  }
}

/** Writes the intent and calls. Returns the error when the cloud did not accept. */
async function send(options: CloudCallOptions, attempt: number): Promise<CloudError | undefined> {
  const { record, action, cloud, ref } = options;
  let intended = performance.now();
  const cancellable = (record.status.calls ?? []).length === 0;
  await record.save(
    (status) => {
      intended = performance.now();
      return withCall(status, { action, attempt, state: 'Sending', time: new Date().toISOString() });
    },
    { cancellable },
  );
  const beforeSend = () => {
    if (!options.holds()) throw new FencedError('leadership is lost');
    if (performance.now() - intended > options.fenceMs) throw new FencedError('the written intent is too old');
  };
  const context = { signal: options.signal, beforeSend };
  try {
    beforeSend();
    const mode = action.endsWith('Hard') ? 'hard' : 'soft';
    if (action.startsWith('Restart')) await cloud.restart(ref, { mode, dryRun: false }, context);
    else if (action.startsWith('Stop')) await cloud.stop(ref, { mode, dryRun: false }, context);
    else await cloud.start(ref, { dryRun: false }, context);
  } catch (error) {
    if (error instanceof CloudError) return error;
    if (options.signal.aborted) throw new FencedError('leadership is lost');
    // The call was held back before a byte left. The intent stands, so it is treated as unknown: waiting for evidence costs time, never a second restart.
    if (error instanceof FencedError || (error instanceof Error && error.cause instanceof FencedError)) {
      return new CloudError('Transient', 'Fenced', 'the call was held back because this process had been stopped for too long', {
        mayHaveHappened: true,
        cause: error,
      });
    }
    return new CloudError('Transient', 'Unexpected', error instanceof Error ? error.message : String(error), {
      mayHaveHappened: true,
      cause: error,
    });
  }
  await record.save((status) => withCall(status, { action, attempt, state: 'Accepted', time: new Date().toISOString() }));
  return undefined;
}

async function evidence(options: CloudCallOptions): Promise<boolean> {
  const began = performance.now();
  for (;;) {
    if (await options.happened()) return true;
    if (performance.now() - began >= options.evidenceMs) return false;
    await options.pause(Math.min(options.pollMs, options.evidenceMs));
  }
}
