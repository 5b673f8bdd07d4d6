import { expect, test } from 'vitest';
import { CancelledError, enterPhase, FencedError, operationRecord } from '../../../../src/hub/nodes/operations/record.ts';
import { operationStore } from '../../../../src/hub/nodes/operations/store.ts';
import type { NodeOperationStatus } from '../../../../src/hub/nodes/schema.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';

const cleaning = cleanUp();

async function setUp(status: Partial<NodeOperationStatus> = {}) {
  const from = await kubeApi();
  cleaning.after(from.close);
  const store = operationStore(from.client, 'x');
  const operation = await store.create(
    'o1',
    { nodeName: 'n1', action: 'Restart', requestedBy: { username: 'u' } },
    { phase: 'Pending', holder: 'me', ...status },
  );
  const stop = new AbortController();
  let pauses = 0;
  const record = operationRecord({
    store,
    operation,
    holder: 'me',
    signal: stop.signal,
    pause: async () => {
      pauses++;
    },
  });
  /** A change by somebody else. */
  const elsewhere = async (change: Partial<NodeOperationStatus>) => {
    const now = await store.get('o1');
    return store.update(now, { ...now.status, ...change });
  };
  return { from, store, record, stop, elsewhere, pauses: () => pauses };
}

test('each phase is written with its line in the history; the end has its time', async () => {
  const { record, store } = await setUp();
  await record.enter('Restarting', 'asking');
  await record.enter('Succeeded', 'done', { reason: 'Done' });
  const { status } = await store.get('o1');
  expect(status).toMatchObject({ phase: 'Succeeded', message: 'done', reason: 'Done' });
  expect(status.history?.map(({ phase }) => phase)).toEqual(['Restarting', 'Succeeded']);
  expect(Date.parse(status.completionTime ?? '')).toBeGreaterThan(0);
  await expect(record.enter('Failed', 'again')).rejects.toThrow(FencedError);
});

test('a conflict: the change is made on what is there now, nothing of it is lost', async () => {
  const { record, store, elsewhere } = await setUp();
  await elsewhere({ message: 'from elsewhere', podsToEvict: 5 });
  await record.save((status) => ({ ...status, podsEvicted: 2 }));
  expect((await store.get('o1')).status).toMatchObject({ message: 'from elsewhere', podsToEvict: 5, podsEvicted: 2 });
});

test('another holder: FencedError, and nothing is written', async () => {
  const { record, from, elsewhere } = await setUp();
  await elsewhere({ holder: 'other' });
  const version = from.version();
  await expect(record.enter('Restarting', 'asking')).rejects.toThrow(new FencedError('other runs it'));
  await expect(record.save((status) => status)).rejects.toThrow(FencedError);
  expect(from.version()).toBe(version);
});

test('another holder that a watch has shown is enough', async () => {
  const { record, from, elsewhere } = await setUp();
  const newer = await elsewhere({ holder: 'other' });
  record.observe(newer);
  const asked = from.seen.length;
  await expect(record.save((status) => status)).rejects.toThrow(FencedError);
  expect(from.seen).toHaveLength(asked);
});

test('what a watch shows late does not take the record back', async () => {
  const { record, store } = await setUp();
  const old = await store.get('o1');
  await record.enter('Restarting', 'asking');
  record.observe(old);
  expect(record.status.phase).toBe('Restarting');
});

test('a cancellation stops what can be stopped, and nothing else', async () => {
  const { record, elsewhere } = await setUp();
  await elsewhere({ cancelRequested: 'eve: wrong node' });
  await record.save((status) => ({ ...status, message: 'going on' }));
  await expect(record.save((status) => status, { cancellable: true })).rejects.toThrow(new CancelledError('eve: wrong node'));
});

test('ended elsewhere, or deleted: FencedError', async () => {
  const ended = await setUp();
  await ended.elsewhere({ phase: 'Cancelled' });
  await expect(ended.record.save((status) => status)).rejects.toThrow(new FencedError('it has ended'));
  const deleted = await setUp();
  await deleted.store.delete(await deleted.store.get('o1'));
  await expect(deleted.record.save((status) => status)).rejects.toThrow(new FencedError('it was deleted'));
});

test('a lost answer: the phase is entered once', async () => {
  const { record, from, store, pauses } = await setUp();
  let lost = 0;
  from.fault(({ method }) => (method === 'PUT' && lost++ === 0 ? 'lose' : undefined));
  await record.enter('Restarting', 'asking');
  expect((await store.get('o1')).status.history?.map(({ phase }) => phase)).toEqual(['Restarting']);
  expect(pauses()).toBe(1);
});

test('an API server in trouble is waited for; a refusal is an error at once', async () => {
  const { record, from, pauses } = await setUp();
  const codes = [500, 503, 429];
  const back = from.fault(({ method }) => {
    const code = method === 'PUT' ? codes.shift() : undefined;
    return code ? { code } : undefined;
  });
  await record.enter('Restarting', 'asking');
  expect(pauses()).toBe(3);
  back();
  from.fault(({ method }) => (method === 'PUT' ? { code: 403 } : undefined));
  await expect(record.save((status) => status)).rejects.toThrow('fault 403');
});

test('leadership that is lost ends the wait; the first try is made nevertheless', async () => {
  const { record, from, store, stop } = await setUp();
  stop.abort();
  await record.save((status) => ({ ...status, message: 'outcome of a call' }));
  expect((await store.get('o1')).status.message).toBe('outcome of a call');
  from.fault(({ method }) => (method === 'PUT' ? 'refuse' : undefined));
  await expect(record.save((status) => status)).rejects.toThrow(new FencedError('leadership is lost'));
});

test('enterPhase leaves its input as it was', () => {
  const status: NodeOperationStatus = { phase: 'Pending', history: [] };
  expect(enterPhase(status, 'Failed', 'why', new Date(0)).history).toHaveLength(1);
  expect(status).toEqual({ phase: 'Pending', history: [] });
});
