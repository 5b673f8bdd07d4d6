import type { InfraNode } from '../../src/hub/nodes/schema.ts';
import { KubeError } from '../../src/kube/errors.ts';
import { API, type Api } from './api.ts';
import { EXIT, ExitError, UsageError } from './exit.ts';

/** Names of nodes from words such as `n1`, `node/n1` or `nodes/n1`, each once, in order. Throws UsageError for another kind. */
export function nodeNames(words: readonly string[]): string[] {
  const names = words.map((word) => {
    const slash = word.indexOf('/');
    const kind = word.slice(0, slash).toLowerCase();
    if (slash >= 0 && !['node', 'nodes', 'no', 'node.infraops.michael.io', 'nodes.infraops.michael.io'].includes(kind)) {
      throw new UsageError(`"${word}" is not a node: give NAME or node/NAME`);
    }
    const name = slash < 0 ? word : word.slice(slash + 1);
    if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name)) throw new UsageError(`"${word}" is not the name of a node`);
    return name;
  });
  return [...new Set(names)];
}

/**
 * The nodes to act on. With a selector the nodes that match now; with several names it is checked that all of them exist, so that a typing
 * error in the last name is not found when the first node is down already. Throws ExitError, or UsageError when nothing or both are given.
 */
export async function findTargets(
  api: Api,
  words: readonly string[],
  selector: string | undefined,
  signal: AbortSignal,
): Promise<string[]> {
  if (selector !== undefined) {
    if (words.length > 0) throw new UsageError('give either names of nodes or --selector, not both');
    const { body } = await api.ask<{ items: InfraNode[] }>({ path: `${API}/nodes`, query: { labelSelector: selector }, signal });
    const names = body.items.map((node) => node.metadata?.name ?? '').filter((name) => name !== '');
    if (names.length === 0) throw new ExitError(EXIT.error, `no node matches the selector ${selector}: nothing was done`);
    return names;
  }
  const names = nodeNames(words);
  if (names.length === 0) throw new UsageError('which node? Give its name, several names, or --selector');
  if (names.length > 1) {
    const unknown = await unknownNodes(api, names, signal);
    if (unknown.length > 0)
      throw new ExitError(EXIT.error, `nodes ${unknown.map((name) => `"${name}"`).join(', ')} not found: nothing was done`);
  }
  return names;
}

/** At most this many requests at once. */
const AT_ONCE = 8;

async function unknownNodes(api: Api, names: readonly string[], signal: AbortSignal): Promise<string[]> {
  const left = [...names];
  const unknown = new Set<string>();
  const worker = async () => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      try {
        await api.ask({ path: `${API}/nodes/${name}`, signal });
      } catch (error) {
        // Who may restart a node need not be allowed to read it: then the restart itself will tell.
        if (error instanceof KubeError && error.code === 404) unknown.add(name);
        else if (!(error instanceof KubeError && error.code === 403)) throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, names.length) }, worker));
  return names.filter((name) => unknown.has(name));
}
