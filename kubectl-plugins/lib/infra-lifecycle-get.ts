import { AS_TABLE } from './api.ts';
import type { Command } from './command.ts';
import { EXIT, UsageError } from './exit.ts';
import { type ClusterLifecycle, lifecyclePath, oneCluster } from './lifecycle.ts';
import { outputOf } from './output.ts';
import { plainText } from './plain-text.ts';
import { SHOW_FLAGS } from './show.ts';
import { type Table, tablePrinter } from './table.ts';

/** `kubectl infra lifecycle get`. */
export const lifecycleGet: Command = {
  name: 'kubectl infra lifecycle get',
  usage: 'CLUSTER',
  summary: 'The single-node cluster on a machine, and what is done to it',
  description: `kubectl infra lifecycle get - show the single-node cluster on a machine: version, phase, the last operation, and what is not as it should be.

RBAC: "get" on clusters/lifecycle of infraops.michael.io.`,
  examples: ['kubectl infra lifecycle get edge-1', "kubectl infra lifecycle get edge-1 -o jsonpath='{.status.phase}'"],
  flags: SHOW_FLAGS.filter(({ name }) => name !== 'watch'),
  words: 'clusters',
  run: async ({ flags, stdio, api, signal }) => {
    const cluster = oneCluster(flags.words);
    const output = outputOf(flags.text('output'), true);
    const path = lifecyclePath(cluster);
    if (output.form !== 'human' && output.form !== 'wide') {
      stdio.out(output.print([(await api().ask<ClusterLifecycle>({ path, signal })).body]));
      return EXIT.done;
    }
    const request = { path, query: { includeObject: 'Object' }, headers: { accept: AS_TABLE }, signal };
    const { body } = await api().ask<Table>(request);
    if (body.kind !== 'Table') throw new UsageError(`the server gave ${body.kind}, not a Table`);
    stdio.out(tablePrinter(output.form === 'wide', !flags.on('no-headers'))(body));
    const [row] = body.rows ?? [];
    if (row?.object) stdio.out(plainText(remarks(row.object as ClusterLifecycle)));
    return EXIT.done;
  },
};

/** What a person should know besides the table; empty when all is well. */
function remarks({ status }: ClusterLifecycle): string {
  const { conditions = [], operation, drift = [] } = status ?? {};
  const bad = conditions.filter(({ status: is, severity }) => is === 'False' && severity !== 'Info');
  const lines = [
    ...bad.map(({ type, reason, message }) => `${type} is not so${reason ? ` (${reason})` : ''}${message ? `: ${message}` : ''}`),
    ...(operation?.phase === 'Failed' ? [`${operation.type} failed${operation.message ? `: ${operation.message}` : ''}`] : []),
    ...(operation?.phase === 'Failed' && operation.nextCommand ? [`  next, on the machine: ${operation.nextCommand}`] : []),
    ...drift.map(({ path, problem }) => `${path}: ${problem}; to put it back: kubectl infra lifecycle repair`),
  ];
  return lines.length > 0 ? `\n${lines.join('\n')}\n` : '';
}
