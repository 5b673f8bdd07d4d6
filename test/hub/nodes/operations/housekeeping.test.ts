import { expect, test, vi } from 'vitest';
import type { NodeDirectory } from '../../../../src/hub/nodes/node-directory.ts';
import { keepHouse } from '../../../../src/hub/nodes/operations/housekeeping.ts';
import { operationLedger } from '../../../../src/hub/nodes/operations/ledger.ts';
import { operationsCache } from '../../../../src/hub/nodes/operations/operations-cache.ts';
import { operationStore } from '../../../../src/hub/nodes/operations/store.ts';
import type { NodeOperationStatus } from '../../../../src/hub/nodes/schema.ts';
import { DEFAULT_NODE_SETTINGS, type NodeSettings } from '../../../../src/hub/nodes/settings.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';
import { eventually } from '../../auth/eventually.ts';

const cleaning = cleanUp();

async function setUp(settings: Partial<NodeSettings> = {}) {
  const api = await kubeApi();
  cleaning.after(api.close);
  const signal = cleaning.signal();
  const store = operationStore(api.client, 'x');
  const ledger = operationLedger(api.client, 'x');
  const cache = operationsCache(api.client, 'x', signal, () => undefined);
  await cache.ready(signal);
  await eventually('the watch', () => api.watches() === 1);
  const directory = { get: () => undefined, facts: () => [] } as unknown as NodeDirectory;
  const make = async (name: string, status: NodeOperationStatus) => {
    await store.create(name, { nodeName: `node-of-${name}`, action: 'Restart', requestedBy: { username: 'u' } }, status);
    await eventually('the cache', () => cache.operation(name) !== undefined);
  };
  const enter = (name: string) => {
    const entry = { name, node: `node-of-${name}`, zone: '', controlPlane: false, action: 'Restart' as const };
    return ledger.admit(entry, async () => ({ admit: true, value: undefined }));
  };
  const keep = (running: string[] = []) =>
    keepHouse({
      client: api.client,
      store,
      cache,
      ledger,
      directory,
      settings: { ...DEFAULT_NODE_SETTINGS, namespace: 'x', ...settings },
      running: new Set(running),
    });
  const inLedger = () =>
    ledger
      .active()
      .map(({ name }) => name)
      .sort();
  return { api, store, make, enter, keep, inLedger, cache };
}
const ended = (completionTime: string): NodeOperationStatus => ({ phase: 'Succeeded', completionTime });

test('entries of ended operations go; those that are running, or have not ended, stay', async () => {
  const { make, enter, keep, inLedger } = await setUp();
  await make('ended', ended(new Date().toISOString()));
  await make('ended-but-held', ended(new Date().toISOString()));
  await make('waiting', { phase: 'Pending', holder: 'h' });
  for (const name of ['ended', 'ended-but-held', 'waiting']) await enter(name);
  await keep(['ended-but-held']);
  expect(inLedger()).toEqual(['ended-but-held', 'waiting']);
});

test('an entry without an operation has a minute: a request may be between its two writes', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  cleaning.after(() => vi.useRealTimers());
  const { enter, keep, inLedger } = await setUp();
  await enter('orphan');
  await keep();
  vi.advanceTimersByTime(59_000);
  await keep();
  expect(inLedger()).toEqual(['orphan']);
  vi.advanceTimersByTime(2_000);
  await keep();
  expect(inLedger()).toEqual([]);
});

test('a ledger that is gone is built anew from what has not ended, what is running among it', async () => {
  const { make, keep, inLedger } = await setUp();
  await make('a', { phase: 'Pending', holder: 'h' });
  await make('b', { phase: 'Restarting', holder: 'h' });
  await make('c', ended(new Date().toISOString()));
  await keep(['b']);
  expect(inLedger()).toEqual(['a', 'b']);
});

test('an operation that was written but never admitted is ended after a minute, and never entered', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  cleaning.after(() => vi.useRealTimers());
  const { make, keep, inLedger, store } = await setUp();
  await make('cut-off', { phase: 'Pending' });
  await keep();
  vi.advanceTimersByTime(59_000);
  await keep();
  expect((await store.get('cut-off')).status.phase).toBe('Pending');
  vi.advanceTimersByTime(2_000);
  await keep();
  expect((await store.get('cut-off')).status).toMatchObject({ phase: 'Failed', reason: 'NotAdmitted' });
  expect(inLedger()).toEqual([]);
});

test('old history goes by age and by number, oldest first; what has not ended never', async () => {
  const { make, keep, api } = await setUp({ historyLimit: 2, historyTTLMs: 3_600_000 });
  const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString();
  await make('day-old', ended(ago(1_440)));
  for (const minutes of [30, 20, 10]) await make(`m${minutes}`, ended(ago(minutes)));
  await make('waiting', { phase: 'Pending', holder: 'h' });
  await keep();
  const left = api.all('/api/v1/namespaces/x/configmaps').map(({ metadata }) => metadata.name);
  expect(left.sort()).toEqual(['fairlead-node-operations', 'm10', 'm20', 'waiting']);
});
