import type { NodeOperation } from '../../src/hub/nodes/schema.ts';
import { API } from './api.ts';
import type { Command } from './command.ts';
import { EXIT, UsageError } from './exit.ts';
import { operationName } from './infra-operations.ts';
import { outputOf } from './output.ts';

/** `kubectl infra cancel`. */
export const infraCancel: Command = {
  name: 'kubectl infra cancel',
  usage: 'OPERATION',
  summary: 'Cancel an operation before the cloud is called',
  description: `kubectl infra cancel - cancel an operation on a node.

Possible until the cloud has been asked to act; after that the answer is a conflict, and the operation goes on.`,
  examples: ['kubectl infra cancel restart-worker-1-x7k2p', 'kubectl infra cancel restart-worker-1-x7k2p --reason="wrong node"'],
  flags: [
    { name: 'reason', kind: 'text', placeholder: 'TEXT', help: 'Why; kept with the operation' },
    { name: 'output', short: 'o', kind: 'text', placeholder: 'FORM', help: 'json, yaml or name', choices: ['json', 'yaml', 'name'] },
  ],
  words: 'operations',
  run: async (session) => {
    const output = outputOf(session.flags.text('output'), false);
    const [name, ...more] = session.flags.words.map(operationName);
    if (name === undefined || more.length > 0) throw new UsageError('which operation? Give one name, see kubectl infra operations');
    const reason = session.flags.text('reason');
    const { body } = await session.api().ask<NodeOperation>({
      method: 'POST',
      path: `${API}/nodeoperations/${name}/cancel`,
      body: { apiVersion: 'infraops.michael.io/v1', kind: 'CancelOptions', ...(reason && { reason }) },
      signal: session.signal,
    });
    const done = body.status?.phase === 'Cancelled' ? 'cancelled' : 'is being cancelled';
    session.stdio.out(output.form === 'human' ? `nodeoperation/${name} ${done}\n` : output.print([body]));
    return EXIT.done;
  },
};
