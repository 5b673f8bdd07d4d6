import { API } from './api.ts';
import type { Command } from './command.ts';
import { UsageError } from './exit.ts';
import { SHOW_FLAGS, showObjects } from './show.ts';
import { nodeNames } from './targets.ts';

/** `kubectl infra nodes`. */
export const infraNodes: Command = {
  name: 'kubectl infra nodes',
  usage: '[NODE...]',
  summary: 'Nodes with their machines, running operations and last restarts',
  description: 'kubectl infra nodes - show nodes as the infrastructure sees them.',
  examples: ['kubectl infra nodes', 'kubectl infra nodes -l pool=blue -o wide', 'kubectl infra nodes worker-1 -w'],
  flags: [...SHOW_FLAGS, { name: 'selector', short: 'l', kind: 'text', placeholder: 'SELECTOR', help: 'Only nodes with these labels' }],
  words: 'nodes',
  run: async (session) => {
    const names = nodeNames(session.flags.words);
    const selector = session.flags.text('selector');
    if (names.length > 0 && selector) throw new UsageError('give either names of nodes or --selector, not both');
    return await showObjects(session, `${API}/nodes`, names, { labelSelector: selector });
  },
};
