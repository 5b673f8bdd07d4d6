import type { KubeClient } from '../../../kube/client.ts';
import { type WatchCache, watchCache } from '../../../kube/watch-cache.ts';
import { OBJECT_LABEL } from '../annotations.ts';
import { LEDGER_NAME, type LedgerConfigMap } from './ledger.ts';
import { fromConfigMap, type Operation, type OperationConfigMap } from './store.ts';

/** What one ConfigMap of the hub's namespace holds. A broken one was edited by somebody; it is reported and left alone. */
export type Kept = { operation: Operation } | { ledger: LedgerConfigMap } | { broken: string };

export type OperationsCache = WatchCache<Kept> & { operation(name: string): Operation | undefined; operations(): Iterable<Operation> };

/** The operations and the ledger, kept up to date by one watch. */
export function operationsCache(
  client: KubeClient,
  namespace: string,
  signal: AbortSignal,
  onError: (error: unknown) => void,
): OperationsCache {
  const cache = watchCache<OperationConfigMap, Kept>({
    client,
    path: `/api/v1/namespaces/${namespace}/configmaps`,
    labelSelector: `${OBJECT_LABEL} in (operation,ledger)`,
    transform(map) {
      if (map.metadata.name === LEDGER_NAME) return { ledger: map };
      try {
        return { operation: fromConfigMap(map) };
      } catch (error) {
        onError(error);
        return { broken: error instanceof Error ? error.message : String(error) };
      }
    },
    signal,
    onError,
  });
  return Object.assign(cache, {
    operation(name: string) {
      const kept = cache.get(name);
      return kept && 'operation' in kept ? kept.operation : undefined;
    },
    *operations() {
      for (const kept of cache.values()) if ('operation' in kept) yield kept.operation;
    },
  });
}
