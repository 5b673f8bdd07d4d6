import { expect, test } from 'vitest';
import { type CallContext, type Cloud, CloudError } from '../../../../src/hub/nodes/clouds/cloud.ts';
import { type CloudCallOptions, callCloud, OperationError } from '../../../../src/hub/nodes/operations/cloud-call.ts';
import { CancelledError, FencedError, operationRecord } from '../../../../src/hub/nodes/operations/record.ts';
import { operationStore } from '../../../../src/hub/nodes/operations/store.ts';
import type { CloudCall } from '../../../../src/hub/nodes/schema.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';

const cleaning = cleanUp();
type Answer = 'ok' | Error | (() => void | Promise<void>);

async function setUp(answers: Answer[], more: Partial<CloudCallOptions> = {}, calls: CloudCall[] = [], cancelRequested?: string) {
  const from = await kubeApi();
  cleaning.after(from.close);
  const store = operationStore(from.client, 'x');
  const operation = await store.create(
    'o1',
    { nodeName: 'n1', action: 'Restart', requestedBy: { username: 'u' } },
    { phase: 'Restarting', holder: 'me', calls, ...(cancelRequested && { cancelRequested }) },
  );
  const signal = cleaning.signal();
  const record = operationRecord({ store, operation, holder: 'me', signal, pause: async () => undefined });
  let sent = 0;
  const asked: string[] = [];
  const states: (string | undefined)[] = [];
  /** As every cloud does it: beforeSend right before the bytes, then the answer. */
  const act = (what: string) => async (context: CallContext) => {
    asked.push(what);
    // What stands in the API server at the moment of the call.
    states.push((await store.get('o1')).status.calls?.at(-1)?.state);
    const answer = answers.shift() ?? 'ok';
    if (typeof answer === 'function') await answer();
    context.beforeSend();
    sent++;
    if (answer instanceof Error) throw answer;
  };
  const cloud: Cloud = {
    name: 'memory',
    hardRestart: true,
    describe: () => Promise.reject(new Error('not asked here')),
    restart: (_ref, { mode }, context) => act(`restart ${mode}`)(context),
    stop: (_ref, { mode }, context) => act(`stop ${mode}`)(context),
    start: (_ref, _options, context) => act('start')(context),
  };
  const pauses: number[] = [];
  const options: CloudCallOptions = {
    record,
    cloud,
    ref: { cloud: 'memory', account: undefined, region: 'r', zone: '', instanceID: 'i' },
    action: 'RestartSoft',
    holds: () => true,
    turn: (work) => work(),
    prepare: async () => undefined,
    underWay: () => false,
    fenceMs: 2_000,
    happened: async () => false,
    evidenceMs: 0,
    pollMs: 1,
    pause: async (ms) => {
      pauses.push(ms);
    },
    leftMs: () => 1e6,
    signal,
    ...more,
  };
  const written = async () => (await store.get('o1')).status.calls?.map(({ attempt, state }) => `${attempt} ${state}`);
  return { options, asked, states, pauses, written, sent: () => sent, store, from };
}

const unknown = new CloudError('Transient', 'CUT', 'the answer was lost', { mayHaveHappened: true });

test.each([
  ['RestartSoft', 'restart soft'],
  ['RestartHard', 'restart hard'],
  ['StopSoft', 'stop soft'],
  ['StopHard', 'stop hard'],
  ['Start', 'start'],
] as const)('%s: the intent stands before the call, the outcome after it', async (action, what) => {
  const { options, asked, states, written } = await setUp(['ok'], { action });
  await callCloud(options);
  expect([asked, states, await written()]).toEqual([[what], ['Sending'], ['1 Accepted']]);
});

test('what was accepted once is never sent again', async () => {
  const { options, sent } = await setUp([]);
  for (let at = 0; at < 3; at++) await callCloud(options);
  expect(sent()).toBe(1);
});

test('an unknown outcome with evidence: accepted, not repeated', async () => {
  let looks = 0;
  const { options, sent, written } = await setUp([unknown], { happened: async () => ++looks >= 3, evidenceMs: 60_000 });
  await callCloud(options);
  expect([sent(), looks, await written()]).toEqual([1, 3, ['1 Accepted']]);
});

test('an unknown outcome without evidence: repeated only after the wait', async () => {
  let firstAt = 0;
  let secondAt = 0;
  const { options, sent, written } = await setUp(
    [
      () => {
        firstAt = performance.now();
        throw unknown;
      },
      () => {
        secondAt = performance.now();
      },
    ],
    { evidenceMs: 200, pause: () => new Promise((resolve) => setTimeout(resolve, 10)) },
  );
  await callCloud(options);
  expect(secondAt - firstAt).toBeGreaterThanOrEqual(200);
  expect([sent(), await written()]).toEqual([1, ['1 Unknown', '2 Accepted']]);
});

test.each(['Sending', 'Unknown'] as const)('an intent found in state %s after a crash is first looked after', async (state) => {
  const before: CloudCall[] = [{ action: 'RestartSoft', attempt: 1, state, time: new Date().toISOString() }];
  const happened = await setUp([], { happened: async () => true }, before);
  await callCloud(happened.options);
  expect([happened.sent(), await happened.written()]).toEqual([0, ['1 Accepted']]);
  const not = await setUp([], {}, before);
  await callCloud(not.options);
  expect([not.sent(), await not.written()]).toEqual([1, [`1 ${state}`, '2 Accepted']]);
});

test('throttled: waits as long as the cloud says, then tries again', async () => {
  const throttled = new CloudError('Throttled', 'RequestLimitExceeded', 'slow down', { retryAfterSeconds: 7 });
  const { options, pauses, sent, written } = await setUp([throttled, throttled]);
  await callCloud(options);
  expect([pauses, sent(), await written()]).toEqual([[7_000, 7_000], 3, ['1 Refused', '2 Refused', '3 Accepted']]);
});

test('connection refused: surely nothing happened, tried again with growing pauses and no search for evidence', async () => {
  const refused = new CloudError('Transient', 'ECONNREFUSED', 'no connection');
  let looks = 0;
  const { options, pauses } = await setUp(Array(8).fill(refused), {
    happened: async () => {
      looks++;
      return false;
    },
  });
  await callCloud(options);
  expect(pauses).toEqual([1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 30_000, 30_000]);
  expect(looks).toBe(0);
});

test.each(['NotFound', 'Forbidden', 'Conflict', 'Invalid'] as const)('%s ends the operation at once', async (kind) => {
  const { options, sent, written } = await setUp([new CloudError(kind, 'Code', 'no')]);
  await expect(callCloud(options)).rejects.toMatchObject({ reason: `Cloud${kind}`, message: 'RestartSoft: no' });
  expect([sent(), await written()]).toEqual([1, ['1 Refused']]);
});

test('no time left: the operation ends instead of waiting', async () => {
  const { options, pauses } = await setUp([new CloudError('Throttled', 'C', 'slow', { retryAfterSeconds: 60 })], { leftMs: () => 59_000 });
  await expect(callCloud(options)).rejects.toThrow(OperationError);
  expect(pauses).toEqual([]);
});

test('regression: a call whose answer was lost was sent again after the time of the operation was over', async () => {
  let left = 1_000;
  const { options, sent, written } = await setUp([
    () => {
      left = 0;
      throw unknown;
    },
  ]);
  await expect(callCloud({ ...options, leftMs: () => left })).rejects.toMatchObject({ reason: 'CloudUnanswered' });
  expect([sent(), await written()]).toEqual([0, ['1 Unknown']]);
});

test('fence: an intent that is too old by the time the bytes would leave is not sent; a fresh one is', async () => {
  const freeze = () => {
    for (const until = performance.now() + 260; performance.now() < until; );
  };
  const { options, sent, written } = await setUp([freeze], { fenceMs: 250 });
  await callCloud(options);
  expect([sent(), await written()]).toEqual([1, ['1 Refused', '2 Accepted']]);
});

test('fence: leadership that is lost between the intent and the bytes: nothing is sent', async () => {
  let holds = true;
  const { options, sent } = await setUp([
    () => {
      holds = false;
    },
  ]);
  const pause = () => Promise.reject(new FencedError('leadership is lost'));
  await expect(callCloud({ ...options, holds: () => holds, pause, evidenceMs: 1_000 })).rejects.toThrow(FencedError);
  expect(sent()).toBe(0);
});

test('a machine that looks as if it is restarting is not restarted again, however long that takes', async () => {
  let looks = 0;
  const { options, sent } = await setUp([unknown], { underWay: () => looks < 20, happened: async () => ++looks >= 15 });
  await callCloud(options);
  expect([sent(), looks]).toEqual([1, 15]);
});

test('leadership lost before the call: the cloud is not even asked', async () => {
  const { options, asked } = await setUp([], {
    holds: () => false,
    evidenceMs: 1_000,
    pause: () => Promise.reject(new FencedError('leadership is lost')),
  });
  await expect(callCloud(options)).rejects.toThrow(FencedError);
  expect(asked).toEqual([]);
});

test('another replica holds the operation: the intent cannot be written, so nothing is sent', async () => {
  const { options, asked, store } = await setUp([]);
  const now = await store.get('o1');
  await store.update(now, { ...now.status, holder: 'other' });
  await expect(callCloud(options)).rejects.toThrow(FencedError);
  expect(asked).toEqual([]);
});

test('cancelled before the first call: nothing is sent; after one it is too late', async () => {
  const early = await setUp([], {}, [], 'eve');
  await expect(callCloud(early.options)).rejects.toThrow(CancelledError);
  expect(early.asked).toEqual([]);
  const late = await setUp([], {}, [{ action: 'StopHard', attempt: 1, state: 'Accepted', time: new Date().toISOString() }], 'eve');
  await callCloud(late.options);
  expect(late.sent()).toBe(1);
});

test('an error that is none of the cloud counts as unknown', async () => {
  const { options, written } = await setUp([new TypeError('bug')], { happened: async () => true });
  await callCloud(options);
  expect(await written()).toEqual(['1 Accepted']);
});
