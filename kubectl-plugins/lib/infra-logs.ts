import type { Command } from './command.ts';
import { UsageError } from './exit.ts';
import type { Flag } from './flags.ts';
import { oneCluster } from './lifecycle.ts';
import { streamText } from './stream-text.ts';
import { nodeNames } from './targets.ts';

const FOLLOW: Flag = { name: 'follow', short: 'f', kind: 'switch', help: 'Go on with new lines', default: 'false' };

/** `kubectl infra logs`. */
export const infraLogs: Command = {
  name: 'kubectl infra logs',
  usage: 'NODE',
  summary: "A node's operations as lines of text",
  description: 'kubectl infra logs - print what was done to a node, line by line.',
  examples: ['kubectl infra logs worker-1', 'kubectl infra logs worker-1 -f'],
  flags: [FOLLOW],
  words: 'nodes',
  run: async (session) => {
    const [node, ...more] = nodeNames(session.flags.words);
    if (node === undefined || more.length > 0) throw new UsageError('which node? Give one name');
    return await streamText(session, `nodes/${node}/log`, session.flags.on('follow'));
  },
};

/** `kubectl infra lifecycle logs`. */
export const lifecycleLogs: Command = {
  name: 'kubectl infra lifecycle logs',
  usage: 'CLUSTER',
  summary: 'What the operations on a machine said',
  description: `kubectl infra lifecycle logs - print what the operations on the machine of a cluster said, with the output of their commands.

RBAC: "get" on clusters/log of infraops.michael.io.`,
  examples: ['kubectl infra lifecycle logs edge-1', 'kubectl infra lifecycle logs edge-1 -f'],
  flags: [FOLLOW],
  words: 'clusters',
  run: async (session) =>
    await streamText(session, `clusters/${encodeURIComponent(oneCluster(session.flags.words))}/log`, session.flags.on('follow')),
};
