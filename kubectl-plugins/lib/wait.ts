import type { NodeOperation } from '../../src/hub/nodes/schema.ts';
import { isExpired, KubeError } from '../../src/kube/errors.ts';
import { API, type Api } from './api.ts';
import { isFinal, nameOf } from './operations.ts';
import { pause } from './pause.ts';
import { watchOnce } from './watch.ts';

/** A server that starts may answer 401, 403 or 404 for a moment, before it has read its own rules. */
const DENIALS = 6;

type Told = {
  /** Gets each new state. */
  changed(operation: NodeOperation): void;
  /** The hub cannot be reached, and is asked again. */
  lost(why: string): void;
};

/**
 * Follows an operation until it has ended, and returns it as it is then. Lost connections, restarts of hub and kube-apiserver, and an expired
 * resourceVersion are passed over. Throws the signal's reason when that fires, and KubeError when the caller may not read operations or the
 * operation is gone.
 */
export async function waitForOperation(api: Api, started: NodeOperation, told: Told, signal: AbortSignal): Promise<NodeOperation> {
  let operation = started;
  let version = started.metadata?.resourceVersion;
  let denials = 0;
  const name = nameOf(started);
  const query = { fieldSelector: `metadata.name=${name}` };

  const take = (next: NodeOperation) => {
    version = next.metadata?.resourceVersion ?? version;
    operation = next;
    told.changed(next);
  };

  for (let delay = 200; !isFinal(operation); ) {
    signal.throwIfAborted();
    const began = performance.now();
    try {
      if (!version) {
        const { body } = await api.ask<{ metadata?: { resourceVersion?: string }; items: NodeOperation[] }>({
          path: `${API}/nodeoperations`,
          query,
          signal,
        });
        const [found] = body.items;
        if (!found) throw new KubeError(404, { message: `the operation ${name} is gone; its outcome is not known`, reason: 'Gone' });
        take(found);
        version = body.metadata?.resourceVersion ?? version;
        if (isFinal(operation)) return operation;
      }
      const from = { ...query, resourceVersion: version };
      for await (const event of watchOnce<NodeOperation>(api, `${API}/nodeoperations`, from, signal)) {
        denials = 0;
        delay = 200;
        if (event.type === 'BOOKMARK') version = event.object.metadata?.resourceVersion ?? version;
        else if (event.type === 'DELETED') version = undefined;
        else take(event.object);
        if (isFinal(operation)) return operation;
      }
      if (performance.now() - began > 5_000) continue;
    } catch (error) {
      signal.throwIfAborted();
      if (isExpired(error)) {
        version = undefined;
      } else {
        if (error instanceof KubeError && error.reason === 'Gone') throw error;
        if (error instanceof KubeError && [400, 401, 403, 404, 405, 422].includes(error.code) && ++denials >= DENIALS) throw error;
        told.lost(error instanceof Error ? error.message : String(error));
      }
    }
    await pause(delay, signal);
    delay = Math.min(delay * 2, 5_000);
  }
  return operation;
}
