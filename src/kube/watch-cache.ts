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
  /** Why the last attempt to list or watch failed; undefined while all is well. */
  failure(): string | undefined;
  /** Why the copy may lag behind by more than moments, as the end of a sentence that begins with its name; undefined while it is followed. */
  stale(): string | undefined;
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
  /** Times in milliseconds, for those who cannot wait for the usual ones. */
  timing?: Partial<WatchTiming>;
};

type WatchTiming = {
  /** A watch without a byte for so long is a dead connection: kube-apiserver sends bookmarks about once a minute. */
  silenceMs: number;
  /** A copy that could not be followed for longer is stale. A watch that was cut is back within the first pauses. */
  toleratedMs: number;
  /** Pause after attempts that were answered 403 or 404: that changes only when somebody changes it. */
  absentMs: number;
  /** Pauses after one, two, ... failures in a row. */
  backoffMs: readonly number[];
};

type ListAnswer<R> = { metadata: { resourceVersion: string; continue?: string }; items: R[] };
type WatchEvent<R> = { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'; object: R & { code?: number; message?: string } };

/** Small pages keep the peak of memory low: the whole list is never there as text. */
const PAGE = 250;
const TIMING: WatchTiming = {
  silenceMs: 130_000,
  toleratedMs: 5_000,
  absentMs: 30_000,
  backoffMs: [100, 200, 500, 1_000, 2_000, 5_000],
};
/** A watch that the server ends sooner has not worked: the next one waits. */
const SHORT_WATCH_MS = 1_000;

/** Lists, watches and lists again when the watch has expired, until the signal is aborted. Never throws: failures are in `failure()`. */
export function watchCache<R extends Raw, T>(options: WatchCacheOptions<R, T>): WatchCache<T> {
  const { client, path, transform, signal } = options;
  const timing = { ...TIMING, ...options.timing };
  const key = options.key ?? ((raw: R) => raw.metadata.name);
  const selectors = { labelSelector: options.labelSelector, fieldSelector: options.fieldSelector };
  const listeners = new Set<(change: CacheChange<T>) => void>();
  let objects = new Map<string, T>();
  let resourceVersion = '';
  let heard = Number.NEGATIVE_INFINITY;
  let failure: string | undefined;
  let failingSince: number | undefined;
  let listed = false;
  const first = Promise.withResolvers<void>();

  const tell = (change: CacheChange<T>) => {
    for (const listener of listeners) {
      try {
        listener(change);
      } catch (error) {
        // One listener's trouble is neither the watch's nor the other listeners'.
        options.onError?.(error);
      }
    }
  };

  const followed = () => {
    heard = performance.now();
    failure = undefined;
    failingSince = undefined;
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
    followed();
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
    response.setTimeout(timing.silenceMs, () => response.destroy(new Error('the watch fell silent')));
    followed();
    for await (const line of lines(response)) {
      heard = performance.now();
      apply(JSON.parse(line) as WatchEvent<R>);
    }
  }

  async function run(): Promise<void> {
    let failures = 0;
    const backOff = async (absent: boolean) => {
      const { backoffMs, absentMs } = timing;
      const pause = absent && failures > 3 ? absentMs : backoffMs[Math.min(failures, backoffMs.length - 1)];
      failures++;
      await sleep(pause, undefined, { signal }).catch(() => undefined);
    };
    while (!signal.aborted) {
      const began = performance.now();
      try {
        if (resourceVersion === '') await list();
        await watch();
        if (performance.now() - began > SHORT_WATCH_MS) failures = 0;
        else await backOff(false);
      } catch (error) {
        if (signal.aborted) return;
        if (isExpired(error) || (error instanceof KubeError && error.code === 400)) resourceVersion = '';
        else {
          failure = error instanceof Error ? error.message : String(error);
          failingSince ??= performance.now();
          options.onError?.(error);
        }
        // A watch that had worked for a while is retried at once: the server was restarted.
        if (performance.now() - began > 10_000) failures = 0;
        await backOff(error instanceof KubeError && (error.code === 403 || error.code === 404));
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
    async ready(until) {
      until.throwIfAborted();
      const given = Promise.withResolvers<never>();
      const giveUp = () => given.reject(until.reason);
      until.addEventListener('abort', giveUp, { once: true });
      await Promise.race([first.promise, given.promise]).finally(() => until.removeEventListener('abort', giveUp));
    },
    failure: () => failure,
    stale() {
      if (!listed) return `has not been read yet${failure === undefined ? '' : `: ${failure}`}`;
      const seconds = (since: number) => Math.round((performance.now() - since) / 1000);
      if (failingSince !== undefined && performance.now() - failingSince > timing.toleratedMs)
        return `could not be followed for ${seconds(failingSince)} s: ${failure}`;
      // A process that stood still has not yet noticed that its watch is dead.
      if (performance.now() - heard > timing.silenceMs + timing.toleratedMs) return `was last heard of ${seconds(heard)} s ago`;
      return undefined;
    },
    onChange(listener, until) {
      if (until.aborted) return;
      listeners.add(listener);
      until.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
  };
}
