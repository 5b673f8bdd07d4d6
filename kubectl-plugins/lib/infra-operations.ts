import { API } from './api.ts';
import type { Command } from './command.ts';
import { UsageError } from './exit.ts';
import { SHOW_FLAGS, showObjects } from './show.ts';
import { nodeNames } from './targets.ts';

const KINDS = ['nodeoperation', 'nodeoperations', 'nodeoperation.infraops.michael.io', 'nodeoperations.infraops.michael.io'];

/** `restart-n1-x` from that or from `nodeoperation/restart-n1-x`. Throws UsageError. */
export function operationName(word: string): string {
  const slash = word.indexOf('/');
  const name = word.slice(slash + 1);
  if (slash >= 0 && !KINDS.includes(word.slice(0, slash).toLowerCase())) throw new UsageError(`"${word}" is not an operation`);
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name)) throw new UsageError(`"${word}" is not the name of an operation`);
  return name;
}

/** `kubectl infra operations`. */
export const infraOperations: Command = {
  name: 'kubectl infra operations',
  usage: '[OPERATION...]',
  summary: 'Restarts, stops and starts: running and finished',
  description: 'kubectl infra operations - show what was done to nodes, by whom, and how far it is.',
  examples: [
    'kubectl infra operations',
    'kubectl infra operations --node worker-1',
    'kubectl infra operations restart-worker-1-x7k2p -o yaml',
    'kubectl infra operations -w',
  ],
  flags: [...SHOW_FLAGS, { name: 'node', kind: 'text', placeholder: 'NODE', help: 'Only operations on this node', lookup: 'nodes' }],
  words: 'operations',
  run: async (session) => {
    const names = session.flags.words.map(operationName);
    const node = session.flags.text('node');
    if (names.length > 0 && node) throw new UsageError('give either names of operations or --node, not both');
    const fieldSelector = node ? `spec.nodeName=${nodeNames([node])[0]}` : undefined;
    return await showObjects(session, `${API}/nodeoperations`, names, { fieldSelector });
  },
};
