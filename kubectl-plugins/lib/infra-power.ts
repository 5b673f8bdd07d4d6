import { runAction } from './action.ts';
import { actionFlags } from './action-flags.ts';
import type { Command } from './command.ts';

/** `kubectl infra stop`. */
export const infraStop: Command = {
  name: 'kubectl infra stop',
  usage: '(NODE... | -l SELECTOR)',
  summary: 'Stop the machines under nodes',
  description: `kubectl infra stop - stop the machines under nodes, by their cloud.

Done when the cloud says that the machine is stopped. The node stays, NotReady, until kubectl infra start.`,
  examples: [
    'kubectl infra stop worker-1 --drain',
    'kubectl infra stop worker-1 --hard --dry-run=server',
    'kubectl infra stop -l pool=night --drain --max-unavailable=100%',
  ],
  flags: actionFlags('Stop'),
  words: 'nodes',
  run: (session) => runAction('Stop', session),
};

/** `kubectl infra start`. */
export const infraStart: Command = {
  name: 'kubectl infra start',
  usage: '(NODE... | -l SELECTOR)',
  summary: 'Start the machines under nodes',
  description: `kubectl infra start - start the machines under nodes that were stopped, by their cloud.

Done when the node is Ready with a new boot id.`,
  examples: ['kubectl infra start worker-1', 'kubectl infra start -l pool=night --max-unavailable=100%'],
  flags: actionFlags('Start'),
  words: 'nodes',
  run: (session) => runAction('Start', session),
};
