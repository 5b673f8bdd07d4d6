import type { NodeInstance } from '../../src/hub/nodes/schema.ts';
import { API } from './api.ts';
import type { Command } from './command.ts';
import { ago } from './duration.ts';
import { EXIT, UsageError } from './exit.ts';
import { outputOf } from './output.ts';
import { SHOW_FLAGS } from './show.ts';
import { nodeNames } from './targets.ts';

/** `kubectl infra instance`. */
export const infraInstance: Command = {
  name: 'kubectl infra instance',
  usage: 'NODE',
  summary: "The cloud's own word on the machine under a node",
  description: 'kubectl infra instance - ask the cloud for the power state, type and addresses of the machine under a node.',
  examples: ['kubectl infra instance worker-1', 'kubectl infra instance worker-1 -o jsonpath={.status.powerState}'],
  flags: SHOW_FLAGS.filter((flag) => flag.name === 'output').map((flag) => ({
    ...flag,
    help: 'json, yaml, name, jsonpath=TEMPLATE or custom-columns=SPEC',
    choices: flag.choices?.filter((choice) => choice !== 'wide') ?? [],
  })),
  words: 'nodes',
  run: async (session) => {
    const output = outputOf(session.flags.text('output'), false);
    const [node, ...more] = nodeNames(session.flags.words);
    if (node === undefined || more.length > 0) throw new UsageError('which node? Give one name');
    const { body } = await session.api().ask<NodeInstance>({ path: `${API}/nodes/${node}/instance`, signal: session.signal });
    session.stdio.out(output.form === 'human' ? instanceText(node, body) : output.print([body]));
    return EXIT.done;
  },
};

function instanceText(node: string, { machine, status }: NodeInstance): string {
  const same = status.providerState.toLowerCase() === status.powerState.toLowerCase();
  const rows: [string, string | undefined][] = [
    ['Node', node],
    ['Cloud', machine.account ? `${machine.cloud} (account ${machine.account})` : machine.cloud],
    ['Instance', machine.instanceID],
    ['Region', machine.region],
    ['Zone', machine.zone],
    ['Power', same ? status.powerState : `${status.powerState} (${status.providerState})`],
    ['Type', status.type],
    ['Image', status.image],
    ['Launched', status.launchTime && `${status.launchTime} (${ago(status.launchTime, Date.now())})`],
    ...status.addresses.map(({ type, address }): [string, string] => [type, address]),
  ];
  return rows.map(([name, value]) => (value ? `${`${name}:`.padEnd(14)}${value}\n` : '')).join('');
}
