import { expect, test } from 'vitest';
import { type CacheChange, type Raw, type WatchCacheOptions, watchCache } from '../../src/kube/watch-cache.ts';
import { eventually } from '../hub/auth/eventually.ts';
import { cleanUp } from '../support/clean-up.ts';
import { type KubeApi, kubeApi } from '../support/kube-api.ts';

const MAPS = '/api/v1/namespaces/x/configmaps';
type Map = Raw & { data?: Record<string, string> };
const cleaning = cleanUp();

async function api(): Promise<KubeApi> {
  const made = await kubeApi();
  cleaning.after(made.close);
  return made;
}
const map = (name: string, value = '') => ({ metadata: { name }, data: { value } });

function cacheOf(from: KubeApi, more: Partial<WatchCacheOptions<Map, string>> = {}) {
  const signal = cleaning.signal();
  const errors: unknown[] = [];
  const changes: CacheChange<string>[] = [];
  const cache = watchCache<Map, string>({
    client: from.client,
    path: MAPS,
    transform: (raw) => raw.data?.['value'] ?? '',
    signal,
    onError: (error) => errors.push(error),
    timing: { backoffMs: [10, 20], absentMs: 50 },
    ...more,
  });
  cache.onChange((change) => changes.push(change), signal);
  return { cache, errors, changes, signal };
}

test('lists in pages, then follows what is added, changed and deleted', async () => {
  const from = await api();
  for (let at = 0; at < 600; at++) from.put(MAPS, map(`m${at}`, 'old'));
  const { cache, changes, signal } = cacheOf(from);
  expect(cache.synced()).toBe(false);
  expect(cache.resourceVersion()).toBe('');
  await cache.ready(signal);
  expect(cache.size).toBe(600);
  expect(from.seen.filter(({ query }) => query.get('limit')).map(({ query }) => query.get('continue') !== null)).toEqual([
    false,
    true,
    true,
  ]);
  expect(changes).toEqual([{ name: undefined, object: undefined }]);
  await eventually('the watch', () => from.watches() === 1);
  from.put(MAPS, map('new', 'n'));
  from.put(MAPS, map('m1', 'changed'));
  from.remove(`${MAPS}/m2`);
  await eventually('the deletion', () => cache.get('m2') === undefined);
  expect([cache.get('new'), cache.get('m1'), cache.size]).toEqual(['n', 'changed', 600]);
  expect(cache.resourceVersion()).toBe(from.version());
  expect(changes.slice(1)).toEqual([
    { name: 'new', object: 'n' },
    { name: 'm1', object: 'changed' },
    { name: 'm2', object: undefined },
  ]);
});

test('a watch that ends goes on where it was: nothing is listed again and nothing is missed', async () => {
  const from = await api();
  const { cache, signal } = cacheOf(from);
  await cache.ready(signal);
  for (const cut of [false, true]) {
    await eventually('the watch', () => from.watches() === 1);
    const back = from.fault(({ query }) => (query.get('watch') ? { code: 503 } : undefined));
    from.endWatches(cut);
    await eventually('the end of the watch', () => from.watches() === 0);
    from.put(MAPS, map(`while-away-${cut}`));
    back();
    await eventually('what came while away', () => cache.get(`while-away-${cut}`) !== undefined);
  }
  expect(from.seen.filter(({ query }) => query.get('limit'))).toHaveLength(1);
});

test('a bookmark moves the version that the watch resumes from', async () => {
  const from = await api();
  const { cache, signal } = cacheOf(from);
  await cache.ready(signal);
  await eventually('the watch', () => from.watches() === 1);
  from.bookmark();
  await eventually('the bookmark', () => cache.resourceVersion() === from.version());
  from.endWatches();
  await eventually('another watch', () => from.seen.at(-1)?.query.get('resourceVersion') === from.version());
});

test('410 within the watch: everything is read anew, and what was deleted meanwhile is gone', async () => {
  const from = await api();
  from.put(MAPS, map('goes'));
  from.put(MAPS, map('stays'));
  const { cache, changes, errors, signal } = cacheOf(from);
  await cache.ready(signal);
  await eventually('the watch', () => from.watches() === 1);
  const back = from.fault(({ query }) => (query.get('watch') ? { code: 503 } : undefined));
  from.endWatches();
  await eventually('trouble', () => cache.failure() !== undefined);
  from.remove(`${MAPS}/goes`);
  from.compact();
  back();
  await eventually('the new list', () => cache.get('goes') === undefined && cache.failure() === undefined);
  expect(cache.get('stays')).toBe('');
  expect(changes.filter(({ name }) => name === undefined)).toHaveLength(2);
  // An expired version is ordinary life, not an error for the log.
  expect(errors.every((error) => !String(error).includes('too old'))).toBe(true);
});

test('410 as the answer to the watch itself is the same', async () => {
  const from = await api();
  let expired = 0;
  from.fault(({ query }) => (query.get('watch') && expired++ < 2 ? { code: 410 } : undefined));
  const { cache, changes, signal } = cacheOf(from);
  await cache.ready(signal);
  await eventually('a watch', () => from.watches() === 1);
  expect(changes).toHaveLength(3);
});

test('an API server that is away: not ready, with the reason, and asked ever more rarely', async () => {
  const from = await api();
  const back = from.fault(() => 'refuse');
  const { cache, errors, signal } = cacheOf(from, { timing: { backoffMs: [5, 10, 20, 40, 80, 160] } });
  const began = performance.now();
  await eventually('six attempts', () => from.seen.length >= 6);
  expect(performance.now() - began).toBeGreaterThan(140);
  expect(cache.synced()).toBe(false);
  expect(cache.failure()).toContain(MAPS);
  expect(errors.length).toBeGreaterThanOrEqual(5);
  back();
  await cache.ready(signal);
  expect(cache.failure()).toBeUndefined();
});

for (const code of [403, 404]) {
  test(`${code}: after a few attempts it is asked rarely, and read as soon as it is there`, async () => {
    const from = await api();
    const back = from.fault(() => ({ code }));
    const { cache, signal } = cacheOf(from, { timing: { backoffMs: [1], absentMs: 300 } });
    await eventually('the slow pace', () => from.seen.length === 5);
    const began = performance.now();
    await eventually('the next attempt', () => from.seen.length === 6);
    expect(performance.now() - began).toBeGreaterThan(200);
    expect(cache.failure()).toContain(`fault ${code}`);
    back();
    await cache.ready(signal);
  });
}

test('a watch that falls silent is ended and begun again', async () => {
  const from = await api();
  const { cache, errors, signal } = cacheOf(from, { timing: { silenceMs: 100, backoffMs: [10] } });
  await cache.ready(signal);
  await eventually('a second watch', () => from.seen.filter(({ query }) => query.get('watch')).length >= 2);
  expect(String(errors[0])).toContain('silent');
  from.put(MAPS, map('after'));
  await eventually('the object', () => cache.get('after') !== undefined);
});

test('a copy that can be followed is not stale, one that could not be for a while is, until it is followed again', async () => {
  const from = await api();
  const away = from.fault(() => ({ code: 500 }));
  const { cache, signal } = cacheOf(from, { timing: { backoffMs: [10], toleratedMs: 150 } });
  expect(cache.stale()).toBe('has not been read yet');
  await eventually('trouble', () => cache.stale() === 'has not been read yet: fault 500');
  away();
  await cache.ready(signal);
  await eventually('the watch', () => from.watches() === 1);
  expect(cache.stale()).toBeUndefined();
  const back = from.fault(({ query }) => (query.get('watch') ? { code: 503 } : undefined));
  from.endWatches();
  await eventually('trouble', () => cache.failure() !== undefined);
  // A watch that is cut is life; it is back in a moment.
  expect(cache.stale()).toBeUndefined();
  await eventually('it to be stale', () => cache.stale() !== undefined);
  expect(cache.stale()).toBe('could not be followed for 0 s: fault 503');
  back();
  await eventually('it to be followed', () => cache.stale() === undefined);
});

test('a process that stood still takes its copy for stale before the watch is found dead', async () => {
  const from = await api();
  const { cache, signal } = cacheOf(from, { timing: { silenceMs: 100, toleratedMs: 20 } });
  await cache.ready(signal);
  await eventually('the watch', () => from.watches() === 1);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  expect(cache.stale()).toBe('was last heard of 0 s ago');
  await eventually('another watch', () => cache.stale() === undefined);
});

test('regression: a server that ends every watch at once was asked in a tight loop', async () => {
  const from = await api();
  from.fault(({ query }) => (query.get('watch') ? { code: 200, body: '' } : undefined));
  const { cache, signal } = cacheOf(from, { timing: { backoffMs: [20, 40, 80, 160] } });
  await cache.ready(signal);
  const began = performance.now();
  await eventually('five watches', () => from.seen.filter(({ query }) => query.get('watch')).length >= 5);
  expect(performance.now() - began).toBeGreaterThan(200);
});

test('regression: waiting for a cache with a signal that is aborted already never ended', async () => {
  const from = await api();
  from.fault(() => 'refuse');
  const { cache } = cacheOf(from);
  await expect(cache.ready(AbortSignal.abort(new Error('too late')))).rejects.toThrow('too late');
  const stop = new AbortController();
  const waiting = cache.ready(stop.signal);
  stop.abort(new Error('given up'));
  await expect(waiting).rejects.toThrow('given up');
});

test('regression: a listener that throws kept the others from hearing and ended the watch', async () => {
  const from = await api();
  const { cache, errors, signal } = cacheOf(from);
  const heard: (string | undefined)[] = [];
  cache.onChange(() => {
    throw new Error('poison');
  }, signal);
  cache.onChange(({ name }) => heard.push(name), signal);
  await cache.ready(signal);
  await eventually('the watch', () => from.watches() === 1);
  from.put(MAPS, map('one'));
  from.put(MAPS, map('two'));
  await eventually('both', () => heard.includes('two'));
  expect(heard).toEqual([undefined, 'one', 'two']);
  expect(from.seen.filter(({ query }) => query.get('watch'))).toHaveLength(1);
  expect(errors.map(String)).toContain('Error: poison');
  expect(cache.failure()).toBeUndefined();
});

test('listeners and the watch end with their signals', async () => {
  const from = await api();
  const stop = new AbortController();
  const { cache, signal } = cacheOf(from, { signal: stop.signal });
  const heard: unknown[] = [];
  const until = new AbortController();
  cache.onChange((change) => heard.push(change), until.signal);
  cache.onChange((change) => heard.push(change), AbortSignal.abort());
  await cache.ready(signal);
  await eventually('the watch', () => from.watches() === 1);
  expect(heard).toHaveLength(1);
  until.abort();
  from.put(MAPS, map('one'));
  await eventually('the object', () => cache.get('one') !== undefined);
  expect(heard).toHaveLength(1);
  stop.abort();
  await eventually('the end of the watch', () => from.watches() === 0);
  const asked = from.seen.length;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(from.seen).toHaveLength(asked);
});

test('only what is selected, under a key of its own', async () => {
  const from = await api();
  from.put('/api/v1/namespaces/a/configmaps', { ...map('same', '1'), metadata: { name: 'same', labels: { kept: 'yes' } } });
  from.put('/api/v1/namespaces/b/configmaps', { ...map('same', '2'), metadata: { name: 'same', labels: { kept: 'yes' } } });
  from.put('/api/v1/namespaces/c/configmaps', map('same', '3'));
  const { cache, signal } = cacheOf(from, {
    path: '/api/v1/configmaps',
    labelSelector: 'kept=yes',
    key: ({ metadata }) => `${metadata.namespace}/${metadata.name}`,
  });
  await cache.ready(signal);
  expect([...cache.values()].sort()).toEqual(['1', '2']);
  await eventually('the watch', () => from.watches() === 1);
  from.put('/api/v1/namespaces/a/configmaps', map('same', '1'));
  await eventually('it leaves the selection', () => cache.get('a/same') === undefined);
  expect(cache.get('b/same')).toBe('2');
});
