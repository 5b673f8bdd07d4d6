import { API } from './api.ts';
import type { Command } from './command.ts';
import { EXIT, ExitError, UsageError } from './exit.ts';
import { nodeNames } from './targets.ts';

/** `kubectl infra logs`. */
export const infraLogs: Command = {
  name: 'kubectl infra logs',
  usage: 'NODE',
  summary: "A node's operations as lines of text",
  description: 'kubectl infra logs - print what was done to a node, line by line.',
  examples: ['kubectl infra logs worker-1', 'kubectl infra logs worker-1 -f'],
  flags: [{ name: 'follow', short: 'f', kind: 'switch', help: 'Go on with new lines', default: 'false' }],
  words: 'nodes',
  run: async (session) => {
    const [node, ...more] = nodeNames(session.flags.words);
    if (node === undefined || more.length > 0) throw new UsageError('which node? Give one name');
    const follow = session.flags.on('follow');
    try {
      const response = await session.api().open({
        path: `${API}/nodes/${node}/log`,
        query: { follow: follow ? 'true' : undefined },
        headers: { accept: 'text/plain, */*' },
        signal: session.signal,
      });
      // A character may lie on the border of two parts.
      response.setEncoding('utf8');
      for await (const part of response) session.stdio.out(String(part));
      return EXIT.done;
    } catch (error) {
      if (session.signal.aborted && follow) return EXIT.done;
      if (error instanceof Error && 'code' in error && error.code === 'ECONNRESET') {
        throw new ExitError(EXIT.error, 'the connection was cut; repeat the command to go on');
      }
      throw error;
    }
  },
};
