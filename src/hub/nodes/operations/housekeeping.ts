import type { KubeClient } from '../../../kube/client.ts';
import { isConflict, isNotFound } from '../../../kube/errors.ts';
import type { NodeDirectory } from '../node-directory.ts';
import type { NodeSettings } from '../settings.ts';
import type { Ledger } from './ledger.ts';
import { clearLeftovers } from './leftovers.ts';
import type { OperationsCache } from './operations-cache.ts';
import { enterPhase } from './record.ts';
import { isFinal, type Operation, type OperationStore } from './store.ts';

export type HousekeepingInput = {
  client: KubeClient;
  store: OperationStore;
  cache: OperationsCache;
  ledger: Ledger;
  directory: NodeDirectory;
  settings: NodeSettings;
  running: ReadonlySet<string>;
};

/** Ledger entries without an operation, and when this process first saw them so (monotonic): a request may be between its two writes. */
const orphans = new Map<string, number>();
const ORPHAN_MS = 60_000;
/** Deletes so many old operations in one go, so that a long history does not flood the API server. */
const DELETE_BATCH = 100;

/** Brings the ledger and the operations together after crashes, and deletes the oldest of the ended operations. */
export async function keepHouse(input: HousekeepingInput): Promise<void> {
  await reconcileLedger(input);
  await clearLeftovers({ ...input, namespace: input.settings.namespace });
  await prune(input);
}

async function reconcileLedger({ cache, ledger, store, directory, running }: HousekeepingInput): Promise<void> {
  const entries = ledger.active();
  const gone: string[] = [];
  for (const { name } of entries) {
    if (running.has(name)) continue;
    const operation = cache.operation(name) ?? (await store.get(name).catch(absent));
    if (operation) {
      orphans.delete(name);
      if (isFinal(operation.status.phase)) gone.push(name);
      continue;
    }
    const since = orphans.get(name) ?? performance.now();
    orphans.set(name, since);
    if (performance.now() - since >= ORPHAN_MS) gone.push(name);
  }
  if (gone.length > 0) await ledger.remove(gone);
  for (const name of gone) orphans.delete(name);

  // A ledger that was deleted by hand is built anew from the operations that have not ended.
  const known = new Set(entries.map((entry) => entry.name));
  for (const operation of cache.operations()) {
    const { name } = operation.metadata;
    if (known.has(name) || isFinal(operation.status.phase)) continue;
    // The cache may lag behind an operation that has just ended.
    const current = await store.get(name).catch(absent);
    if (!current || isFinal(current.status.phase)) continue;
    if (current.status.holder === undefined) {
      await endUnadmitted(current, store);
      continue;
    }
    const { nodeName: node, action } = operation.spec;
    const facts = directory.get(node);
    const entry = { name, node, action, zone: facts?.zone ?? '', controlPlane: facts?.controlPlane ?? false };
    await ledger.admit(entry, async () => ({ admit: true, value: undefined }));
  }
}

/** An operation that was written but never admitted: its request was cut off in between. Only a while later, because it may still be on its way. */
async function endUnadmitted(operation: Operation, store: OperationStore): Promise<void> {
  const { name } = operation.metadata;
  const since = orphans.get(name) ?? performance.now();
  orphans.set(name, since);
  if (performance.now() - since < ORPHAN_MS) return;
  const message = 'the request was cut off before the operation was admitted; nothing was done, ask again';
  await store.update(operation, { ...enterPhase(operation.status, 'Failed', message), reason: 'NotAdmitted' }).catch(absent);
  orphans.delete(name);
}

async function prune({ cache, store, settings }: HousekeepingInput): Promise<void> {
  const ended = [...cache.operations()].filter((operation) => isFinal(operation.status.phase));
  ended.sort((a, b) => endOf(a) - endOf(b));
  const excess = ended.length - settings.historyLimit;
  const old = ended.filter((operation, index) => index < excess || Date.now() - endOf(operation) > settings.historyTTLMs);
  for (const operation of old.slice(0, DELETE_BATCH)) await store.delete(operation).catch(absent);
}

const endOf = (operation: Operation): number =>
  Date.parse(operation.status.completionTime ?? operation.metadata.creationTimestamp ?? '') || 0;

function absent(error: unknown): undefined {
  if (isNotFound(error) || isConflict(error)) return undefined;
  throw error;
}
