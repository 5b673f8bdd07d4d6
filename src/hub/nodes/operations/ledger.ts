import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../../../kube/client.ts';
import { isConflict, isNotFound, KubeUnreachableError } from '../../../kube/errors.ts';
import type { Raw } from '../../../kube/watch-cache.ts';
import { OBJECT_LABEL } from '../annotations.ts';
import type { ActiveOperation } from '../guards/guard.ts';

export const LEDGER_NAME = 'fairlead-node-operations';

/** The ConfigMap behind the ledger: `data.active` is a JSON array of ActiveOperation. */
export type LedgerConfigMap = Raw & { data?: Record<string, string> };

/** What is decided about one operation, given all others that are active. `admit` false leaves the ledger as it is. */
export type Decision<T> = { admit: boolean; value: T };

/**
 * The operations that have been admitted and have not ended, in one object: all replicas admit by compare-and-swap on it, so that two of them can
 * never together exceed what the guards allow. Requests that arrive while a write is under way share the next write.
 */
export type Ledger = {
  /** Calls `decide` (again whenever another replica was faster) and enters the operation when it says so. */
  admit<T>(operation: ActiveOperation, decide: (others: readonly ActiveOperation[]) => Promise<Decision<T>>): Promise<T>;
  remove(names: readonly string[]): Promise<void>;
  /** As far as this replica knows. */
  active(): readonly ActiveOperation[];
  /** Takes in what a watch has seen, so that decisions begin with what is true now. */
  observe(map: LedgerConfigMap | undefined): void;
};

type State = { resourceVersion: string | undefined; active: Map<string, ActiveOperation> };
type Work = (state: State, next: Map<string, ActiveOperation>) => Promise<void>;
type Entry = { work: Work; resolve: () => void; reject: (error: unknown) => void };

const ATTEMPTS = 30;

/** The operations that a ledger names. Throws an Error when its data is not a ledger's. */
export function activeIn(map: LedgerConfigMap): ActiveOperation[] {
  const active: unknown = JSON.parse(map.data?.['active'] ?? '[]');
  if (!Array.isArray(active)) throw new Error(`ConfigMap ${LEDGER_NAME}: data.active is not an array`);
  return active as ActiveOperation[];
}

export function operationLedger(client: KubeClient, namespace: string): Ledger {
  const collection = `/api/v1/namespaces/${namespace}/configmaps`;
  const path = `${collection}/${LEDGER_NAME}`;
  let known: State | undefined;
  let queue: Entry[] = [];
  let flushing = false;

  const parse = (map: LedgerConfigMap): State => ({
    resourceVersion: map.metadata.resourceVersion,
    active: new Map(activeIn(map).map((operation) => [operation.name, operation])),
  });

  async function load(): Promise<State> {
    try {
      return parse(await client.request<LedgerConfigMap>({ path }));
    } catch (error) {
      if (isNotFound(error)) return { resourceVersion: undefined, active: new Map() };
      throw error;
    }
  }

  async function save(state: State, active: Map<string, ActiveOperation>): Promise<State> {
    const exists = state.resourceVersion !== undefined;
    const map = await client.request<LedgerConfigMap>({
      method: exists ? 'PUT' : 'POST',
      path: exists ? path : collection,
      body: {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: {
          name: LEDGER_NAME,
          ...(exists && { resourceVersion: state.resourceVersion }),
          labels: { 'app.kubernetes.io/managed-by': 'fairlead-hub', [OBJECT_LABEL]: 'ledger' },
        },
        data: { active: JSON.stringify([...active.values()]) },
      },
    });
    return { resourceVersion: map.metadata.resourceVersion, active };
  }

  async function commit(batch: Entry[]): Promise<void> {
    let left = batch;
    for (let attempt = 0; left.length > 0; attempt++) {
      const state = known ?? (await load());
      const next = new Map(state.active);
      const done: Entry[] = [];
      for (const entry of left) {
        try {
          await entry.work(state, next);
          done.push(entry);
        } catch (error) {
          entry.reject(error);
        }
      }
      left = done;
      if (next.size !== state.active.size || [...next.keys()].some((name) => !state.active.has(name))) {
        try {
          known = await save(state, next);
        } catch (error) {
          known = undefined;
          const retry = isConflict(error) || isNotFound(error) || error instanceof KubeUnreachableError;
          if (!retry || attempt >= ATTEMPTS) throw error;
          await sleep(Math.random() * Math.min(10 * (attempt + 1), 200));
          continue;
        }
      } else {
        known = state;
      }
      for (const entry of left) entry.resolve();
      return;
    }
  }

  async function flush(): Promise<void> {
    while (queue.length > 0) {
      const batch = queue;
      queue = [];
      await commit(batch).catch((error: unknown) => {
        for (const entry of batch) entry.reject(error);
      });
    }
    // Here, not when the promise is settled: what is queued in between would wait for the next one.
    flushing = false;
  }

  function enqueue(work: Work): Promise<void> {
    return new Promise((resolve, reject) => {
      queue.push({ work, resolve, reject });
      if (flushing) return;
      flushing = true;
      flush().catch((error: unknown) => {
        flushing = false;
        reject(error);
      });
    });
  }

  return {
    async admit<T>(operation: ActiveOperation, decide: (others: readonly ActiveOperation[]) => Promise<Decision<T>>): Promise<T> {
      let decided: Decision<T> | undefined;
      const work: Work = async (_state, next) => {
        decided = await decide([...next.values()].filter((other) => other.name !== operation.name));
        if (decided.admit) next.set(operation.name, operation);
      };
      await enqueue(work);
      if (decided && !(decided as Decision<T>).admit) {
        // A refusal has to hold against what is true now, not against a copy that another replica may have changed.
        const fresh = await load();
        if (fresh.resourceVersion !== known?.resourceVersion) {
          known = fresh;
          await enqueue(work);
        }
      }
      if (!decided) throw new Error('the ledger was written without a decision');
      return (decided as Decision<T>).value;
    },
    async remove(names) {
      await enqueue(async (_state, next) => {
        for (const name of names) next.delete(name);
      });
    },
    active: () => [...(known?.active.values() ?? [])],
    observe(map) {
      // While a write is under way its answer will be newer than what the watch says.
      if (flushing) return;
      const seen = map ? parse(map) : undefined;
      const older = seen && known?.resourceVersion && BigInt(seen.resourceVersion ?? 0) < BigInt(known.resourceVersion);
      if (!older) known = seen;
    },
  };
}
