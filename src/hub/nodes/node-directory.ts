import type { KubeClient } from '../../kube/client.ts';
import { type WatchCache, watchCache } from '../../kube/watch-cache.ts';
import { type CoreNode, infraNode, type MachineOf, type NodeFacts, nodeFacts } from './node-facts.ts';
import type { InfraNode } from './schema.ts';

type Found = ReturnType<MachineOf>;
type Entry = { facts: NodeFacts; found: Found; json: string | undefined };

/** All nodes of the cluster as this room sees them, kept up to date by a watch. */
export type NodeDirectory = {
  get(name: string): NodeFacts | undefined;
  facts(): Iterable<NodeFacts>;
  view(name: string): InfraNode | undefined;
  machine(name: string): Found | undefined;
  /** Names of the nodes with the same machine, the node itself among them. */
  sharing(name: string): readonly string[];
  /** All views, in order of their names. */
  views(): InfraNode[];
  /** JSON texts of all views, in order of their names, and the resourceVersion they are of. */
  list(): { resourceVersion: string; items: string[] };
  cache: Pick<WatchCache<unknown>, 'synced' | 'ready' | 'failure' | 'stale' | 'onChange' | 'resourceVersion'>;
};

const machineKey = (found: Found): string | undefined =>
  'machine' in found ? `${found.machine.cloud}/${found.machine.region}/${found.machine.instanceID}` : undefined;

export function nodeDirectory(options: {
  client: KubeClient;
  machineOf: MachineOf;
  signal: AbortSignal;
  onError: (error: unknown) => void;
}): NodeDirectory {
  const { client, machineOf, signal, onError } = options;
  const byMachine = new Map<string, Set<string>>();
  const keys = new Map<string, string>();
  // The list changes when a node comes or goes; until then its order is kept.
  let order: string[] | undefined;
  // Guards walk over all nodes several times for one request.
  let all: NodeFacts[] | undefined;

  const cache = watchCache<CoreNode, Entry>({
    client,
    path: '/api/v1/nodes',
    transform(node) {
      const facts = nodeFacts(node);
      return { facts, found: machineOf(facts), json: undefined };
    },
    signal,
    onError,
  });

  function index(name: string, entry: Entry | undefined): void {
    const before = keys.get(name);
    const after = entry && machineKey(entry.found);
    if (before === after && entry) return;
    if (before !== undefined) {
      byMachine.get(before)?.delete(name);
      if (byMachine.get(before)?.size === 0) byMachine.delete(before);
      keys.delete(name);
    }
    if (after !== undefined) {
      const names = byMachine.get(after) ?? new Set();
      byMachine.set(after, names.add(name));
      keys.set(name, after);
    }
  }

  cache.onChange(({ name, object }) => {
    all = undefined;
    if (name === undefined) {
      byMachine.clear();
      keys.clear();
      for (const entry of cache.values()) index(entry.facts.name, entry);
      order = undefined;
    } else {
      if (!object || !keys.has(name)) order = undefined;
      index(name, object);
    }
  }, signal);

  function names(): string[] {
    if (order?.length !== cache.size) order = [...cache.values()].map((entry) => entry.facts.name).sort();
    return order;
  }

  const viewOf = (entry: Entry): InfraNode => infraNode(entry.facts, () => entry.found);

  return {
    get: (name) => cache.get(name)?.facts,
    facts() {
      all ??= [...cache.values()].map((entry) => entry.facts);
      return all;
    },
    view(name) {
      const entry = cache.get(name);
      return entry && viewOf(entry);
    },
    machine: (name) => cache.get(name)?.found,
    sharing(name) {
      const key = keys.get(name);
      return key === undefined ? [name] : [...(byMachine.get(key) ?? [])];
    },
    views: () =>
      names()
        .flatMap((name) => cache.get(name) ?? [])
        .map(viewOf),
    list() {
      const items: string[] = [];
      for (const name of names()) {
        const entry = cache.get(name);
        if (!entry) continue;
        entry.json ??= JSON.stringify(viewOf(entry));
        items.push(entry.json);
      }
      return { resourceVersion: cache.resourceVersion(), items };
    },
    cache,
  };
}
