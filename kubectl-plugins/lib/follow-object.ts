import { isExpired, KubeError } from '../../src/kube/errors.ts';
import type { Api } from './api.ts';
import { pause } from './pause.ts';
import { watchOnce } from './watch.ts';

/** A server that starts may answer 401, 403 or 404 for a moment, before it has read its own rules. */
const DENIALS = 6;

type Named = { metadata?: { name?: string; resourceVersion?: string } };

export type Following<T> = {
  /** The collection that the object is in. */
  path: string;
  /** Whether this state is the end. */
  done(object: T): boolean;
  /** Gets each new state. */
  changed(object: T): void;
  /** The server cannot be reached, and is asked again. */
  lost(why: string): void;
  /** What is said when the object has been deleted. */
  gone: string;
};

/**
 * Follows one object until it is in a state that ends it, and returns it as it is then. Lost connections, restarts of hub and kube-apiserver,
 * and an expired resourceVersion are passed over. Throws the signal's reason when that fires, and KubeError when the caller may not read the
 * object (list and watch by its name) or the object is gone (reason Gone).
 */
export async function followObject<T extends Named>(api: Api, started: T, following: Following<T>, signal: AbortSignal): Promise<T> {
  const { path } = following;
  let object = started;
  let version = started.metadata?.resourceVersion;
  let denials = 0;
  const query = { fieldSelector: `metadata.name=${started.metadata?.name ?? ''}` };

  const take = (next: T) => {
    version = next.metadata?.resourceVersion ?? version;
    object = next;
    following.changed(next);
  };

  for (let delay = 200; !following.done(object); ) {
    signal.throwIfAborted();
    const began = performance.now();
    try {
      if (!version) {
        const { body } = await api.ask<{ metadata?: { resourceVersion?: string }; items: T[] }>({ path, query, signal });
        const [found] = body.items;
        if (!found) throw new KubeError(404, { message: following.gone, reason: 'Gone' });
        take(found);
        version = body.metadata?.resourceVersion ?? version;
        if (following.done(object)) return object;
      }
      for await (const event of watchOnce<T>(api, path, { ...query, resourceVersion: version }, signal)) {
        denials = 0;
        delay = 200;
        if (event.type === 'BOOKMARK') version = event.object.metadata?.resourceVersion ?? version;
        else if (event.type === 'DELETED') version = undefined;
        else take(event.object);
        if (following.done(object)) return object;
      }
      if (performance.now() - began > 5_000) continue;
    } catch (error) {
      signal.throwIfAborted();
      if (isExpired(error)) {
        version = undefined;
      } else {
        if (error instanceof KubeError && error.reason === 'Gone') throw error;
        if (error instanceof KubeError && [400, 401, 403, 404, 405, 422].includes(error.code) && ++denials >= DENIALS) throw error;
        following.lost(error instanceof Error ? error.message : String(error));
      }
    }
    await pause(delay, signal);
    delay = Math.min(delay * 2, 5_000);
  }
  return object;
}
