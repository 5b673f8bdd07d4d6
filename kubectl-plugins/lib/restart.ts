import { runAction } from './action.ts';
import { actionFlags } from './action-flags.ts';
import type { Command } from './command.ts';

/** `kubectl restart`. */
export const restart: Command = {
  name: 'kubectl restart',
  usage: '(NODE... | -l SELECTOR)',
  summary: 'Restart the machines under nodes',
  description: `kubectl restart - restart the machines under nodes, by their cloud.

The hub (API group infraops.michael.io) checks its guards, drains the node when asked to, has the cloud restart the machine and waits until the
node is Ready with a new boot id. RBAC: "create" on nodes/restart of infraops.michael.io, and "get,list,watch" on nodeoperations to follow it.
Several nodes are restarted one after another (--max-unavailable); the first failure ends it and the nodes that were not done are named.
Ctrl-C leaves the operation running.`,
  examples: [
    '# Restart one node and wait until it is back',
    'kubectl restart worker-1',
    '',
    '# What would the guards say? Nothing is changed',
    'kubectl restart worker-1 --dry-run=server',
    '',
    '# Drain first, as kubectl drain does, with limits',
    'kubectl restart worker-1 --drain --delete-emptydir-data --drain-timeout=10m --timeout=30m --reason="kernel update"',
    '',
    '# All workers of a pool, a quarter of them at a time',
    'kubectl restart -l pool=blue --drain --max-unavailable=25%',
    '',
    '# Reset a machine that hangs, and do not wait',
    'kubectl restart node/worker-1 --hard --wait=false -o name',
  ],
  flags: actionFlags('Restart'),
  words: 'nodes',
  run: (session) => runAction('Restart', session),
};
