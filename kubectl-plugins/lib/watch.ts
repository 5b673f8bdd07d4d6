import { KubeError } from '../../src/kube/errors.ts';
import { lines } from '../../src/kube/lines.ts';
import type { Api } from './api.ts';

export type WatchEvent<T> = { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; object: T };

/** The server ends a watch after this long, and we open the next: a connection that died unseen costs no more than that. */
const WATCH_SECONDS = 60;

/**
 * The events of one watch request, until the server ends it. Throws KubeError (code 410: the resourceVersion is too old) or
 * KubeUnreachableError; the abort reason when `signal` fires.
 */
export async function* watchOnce<T>(
  api: Api,
  path: string,
  query: Record<string, string | undefined>,
  signal: AbortSignal,
  accept?: string,
): AsyncGenerator<WatchEvent<T>> {
  const silent = AbortSignal.timeout((WATCH_SECONDS + 15) * 1000);
  const response = await api.open({
    path,
    query: { ...query, watch: 'true', allowWatchBookmarks: 'true', timeoutSeconds: String(WATCH_SECONDS) },
    signal: AbortSignal.any([signal, silent]),
    ...(accept && { headers: { accept } }),
  });
  try {
    for await (const line of lines(response)) {
      const event = JSON.parse(line) as WatchEvent<T> | { type: 'ERROR'; object: { code?: number; message?: string } };
      if (event.type === 'ERROR') throw new KubeError(event.object.code ?? 500, event.object);
      yield event;
    }
  } catch (error) {
    signal.throwIfAborted();
    // A cut connection ends the watch as a normal end does; the caller opens the next one.
    if (error instanceof KubeError) throw error;
  } finally {
    response.destroy();
  }
}
