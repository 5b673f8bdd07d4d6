import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from './client.ts';
import { isExpired, KubeError } from './errors.ts';
import { lines } from './lines.ts';

/** The least that every object of the core API has. */
export type Raw = { metadata: { name: string; namespace?: string; resourceVersion: string } };

/** What a cache tells its listeners: `object` is undefined when `name` is gone, `name` is undefined when everything was read anew. */
export type CacheChange<T> = { name: string | undefined; object: T | undefined };

/** A copy of one collection, kept up to date by a watch. Objects are what `transform` made of them. */
export type WatchCache<T> = {
  get(name: string): T | undefined;
  /** All objects, in no order. */
  values(): IterableIterator<T>;
  readonly size: number;
  /** resourceVersion up to which the copy is complete; '' before the first list. */
  resourceVersion(): string;
  /** Whether the first list is in. */
  synced(): boolean;
  /** Resolves when synced; rejects when the signal is aborted first. */
  ready(signal: AbortSignal): Promise<void>;
  /** How long ago the server was last heard, in milliseconds; Infinity before. A watch hears a bookmark every minute. */
  silenceMs(): number;
  /** Why the last attempt to list or watch failed; undefined while all is well. */
  failure(): string | undefined;
  onChange(listener: (change: CacheChange<T>) => void, signal: AbortSignal): void;
};

export type WatchCacheOptions<R extends Raw, T> = {
  client: KubeClient;
  /** Collection, for example `/api/v1/nodes`. */
  path: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Keeps what is needed: a cache of 5,000 whole Nodes is 50 MB. */
  transform: (raw: R) => T;
  /** Key of an object; its name by default. */
  key?: (raw: R) => string;
  signal: AbortSignal;
  onError?: (error: unknown) => void;
};

type ListAnswer<R> = { metadata: { resourceVersion: string; continue?: string }; items: R[] };
type WatchEvent<R> = { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'; object: R & { code?: number; message?: string } };

/** Small pages keep the peak of memory low: the whole list is never there as text. */
const PAGE = 250;
/** kube-apiserver sends bookmarks about once a minute; twice that without a byte is a dead connection. */
const SILENCE_MS = 130_000;
/** What is forbidden or not there becomes so only when somebody changes it. */
const ABSENT_MS = 30_000;
const BACKOFF_MS = [100, 200, 500, 1_000, 2_000, 5_000];

/** Lists, watches and lists again when the watch has expired, until the signal is aborted. Never throws: failures are in `failure()`. */
export function watchCache<R extends Raw, T>(options: WatchCacheOptions<R, T>): WatchCache<T> {
  const { client, path, transform, signal } = options;
  const key = options.key ?? ((raw: R) => raw.metadata.name);
  const selectors = { labelSelector: options.labelSelector, fieldSelector: options.fieldSelector };
  const listeners = new Set<(change: CacheChange<T>) => void>();
  let objects = new Map<string, T>();
  let resourceVersion = '';
  let heard = Number.NEGATIVE_INFINITY;
  let failure: string | undefined;
  let listed = false;
  const first = Promise.withResolvers<void>();

  const tell = (change: CacheChange<T>) => {
    for (const listener of listeners) listener(change);
  };

  async function list(): Promise<void> {
    const next = new Map<string, T>();
    let more: string | undefined;
    let version = '';
    do {
      const page: ListAnswer<R> = await client.request({
        path,
        query: { ...selectors, limit: PAGE, continue: more },
        signal,
        timeoutMs: 30_000,
      });
      for (const item of page.items) next.set(key(item), transform(item));
      version = page.metadata.resourceVersion;
      more = page.metadata.continue;
      heard = performance.now();
    } while (more);
    objects = next;
    resourceVersion = version;
    failure = undefined;
    listed = true;
    first.resolve();
    tell({ name: undefined, object: undefined });
  }

  function apply(event: WatchEvent<R>): void {
    if (event.type === 'ERROR') throw new KubeError(event.object.code ?? 500, event.object as never);
    resourceVersion = event.object.metadata.resourceVersion;
    if (event.type === 'BOOKMARK') return;
    const name = key(event.object);
    if (event.type === 'DELETED') {
      objects.delete(name);
      tell({ name, object: undefined });
    } else {
      const object = transform(event.object);
      objects.set(name, object);
      tell({ name, object });
    }
  }

  async function watch(): Promise<void> {
    // Spread over replicas and collections, so that they do not all reconnect at once.
    const timeoutSeconds = 300 + Math.floor(Math.random() * 300);
    const query = { ...selectors, watch: true, allowWatchBookmarks: true, resourceVersion, timeoutSeconds };
    const response: IncomingMessage = await client.stream({ path, query, signal });
    response.setTimeout(SILENCE_MS, () => response.destroy(new Error('the watch fell silent')));
    failure = undefined;
    for await (const line of lines(response)) {
      heard = performance.now();
      apply(JSON.parse(line) as WatchEvent<R>);
    }
  }

  async function run(): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const began = performance.now();
      try {
        if (resourceVersion === '') await list();
        await watch();
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (isExpired(error) || (error instanceof KubeError && error.code === 400)) resourceVersion = '';
        else {
          failure = error instanceof Error ? error.message : String(error);
          options.onError?.(error);
        }
        // A watch that had worked for a while is retried at once: the server was restarted.
        if (performance.now() - began > 10_000) failures = 0;
        const absent = error instanceof KubeError && (error.code === 403 || error.code === 404);
        const backoff = absent && failures > 3 ? ABSENT_MS : BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)];
        failures++;
        await sleep(backoff, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  run().catch((error: unknown) => options.onError?.(error));

  return {
    get: (name) => objects.get(name),
    values: () => objects.values(),
    get size() {
      return objects.size;
    },
    resourceVersion: () => resourceVersion,
    synced: () => listed,
    ready: (until) =>
      Promise.race([
        first.promise,
        new Promise<never>((_, reject) => {
          until.addEventListener('abort', () => reject(until.reason), { once: true });
        }),
      ]),
    silenceMs: () => performance.now() - heard,
    failure: () => failure,
    onChange(listener, until) {
      listeners.add(listener);
      until.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
  };
}
