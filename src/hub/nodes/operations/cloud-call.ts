import { type Cloud, CloudError } from '../clouds/cloud.ts';
import type { InstanceRef } from '../clouds/provider-id.ts';
import type { CloudCall, NodeOperationStatus } from '../schema.ts';
import { FencedError, type OperationRecord } from './record.ts';
import type { Turns } from './turns.ts';

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
  /** Waits for a turn: clouds throttle, and an intent must be followed by its call at once, which 500 together cannot. */
  turn: Turns;
  /** How old the written intent may be when the bytes leave; a process that was frozen in between must not send any more. */
  fenceMs: number;
  /** Done before the intent is written: whatever may take long (loading the SDK, fetching credentials) and would make the intent too old. */
  prepare: () => Promise<void>;
  /** Whether there is evidence that an earlier call of this action took effect. Asked repeatedly while the outcome is unknown. */
  happened: () => Promise<boolean>;
  /** Whether the machine looks as if an earlier call is taking effect now: then it is not repeated, however long that takes. */
  underWay: () => boolean;
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

/** Another write was faster than the intent; what stands there now decides anew. */
class OvertakenError extends Error {
  override name = 'OvertakenError';
}

const isSame = (a: CloudCall | undefined, b: CloudCall | undefined) =>
  a?.attempt === b?.attempt && a?.state === b?.state && a?.time === b?.time;

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
    if (last && options.leftMs() <= 0)
      throw new OperationError(
        'CloudUnanswered',
        `${action}: there is no time left to try again; the last call: ${last.message ?? last.state}`,
      );
    const attempt = (last?.attempt ?? 0) + 1;
    let error: CloudError | undefined;
    try {
      error = await options.turn(() => send(options, attempt, last));
    } catch (overtaken) {
      if (overtaken instanceof OvertakenError) continue;
      throw overtaken;
    }
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

/** Writes the intent and calls. Returns the error when the cloud did not accept. Throws OvertakenError when `previous` is no longer the last call. */
async function send(options: CloudCallOptions, attempt: number, previous: CloudCall | undefined): Promise<CloudError | undefined> {
  const { record, action, cloud, ref } = options;
  await options.prepare();
  let intended = performance.now();
  let intent: CloudCall | undefined;
  const cancellable = (record.status.calls ?? []).length === 0;
  await record.save(
    (status) => {
      const standing = lastCall(status, action);
      // Our own intent may stand there already, when the answer to its write was lost.
      if (!isSame(standing, previous) && !isSame(standing, intent)) throw new OvertakenError(`call ${standing?.attempt} stands there`);
      intended = performance.now();
      intent = { action, attempt, state: 'Sending', time: new Date().toISOString() };
      return withCall(status, intent);
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
    // The call was held back before a byte left, and only who still holds the operation can write that down: nothing can have happened.
    if (error instanceof FencedError || (error instanceof Error && error.cause instanceof FencedError)) {
      return new CloudError('Transient', 'Fenced', 'the call was held back because too much time had passed since it was written down', {
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
    if (performance.now() - began >= options.evidenceMs && !options.underWay()) return false;
    if (options.leftMs() <= 0)
      throw new OperationError(
        'OutcomeUnknown',
        `${options.action}: no answer came, and nothing shows that it took effect, until the timeout`,
      );
    await options.pause(Math.min(options.pollMs, options.evidenceMs));
  }
}
