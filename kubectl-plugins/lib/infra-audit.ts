import { type ChainVerdict, entryProblem, followProblem, verifyChain } from '../../src/kube/audit-chain.ts';
import type { AuditEntry, AuditHistory } from '../../src/kube/lifecycle.ts';
import type { Command } from './command.ts';
import { EXIT, ExitError } from './exit.ts';
import { lifecyclePath, oneCluster } from './lifecycle.ts';
import { outputOf } from './output.ts';
import { plainText } from './plain-text.ts';
import { columnsText } from './table.ts';

type ClusterAudit = AuditHistory & { apiVersion?: string; kind?: string; metadata?: { name?: string } };

/** `kubectl infra audit`. */
export const infraAudit: Command = {
  name: 'kubectl infra audit',
  usage: 'CLUSTER',
  summary: 'What was done to the cluster on a machine, by whom; verified',
  description: `kubectl infra audit - show the history of the cluster on a machine, and verify it: each entry holds a hash of the one before, so that an entry which was
edited, removed or moved shows. Ends with an error when one was. Entries cut off the end show only to the agent itself, which then adds an entry that says so.
Of a history of more than 15 MiB, about 30,000 entries, the newest are shown, and verified from the first of them on.

RBAC: "get" on clusters/audit of infraops.michael.io.`,
  examples: ['kubectl infra audit edge-1', 'kubectl infra audit edge-1 -o json > edge-1-audit.json'],
  flags: [
    {
      name: 'output',
      short: 'o',
      kind: 'text',
      placeholder: 'FORM',
      help: 'json, yaml, jsonpath=TEMPLATE or custom-columns=SPEC',
      choices: ['json', 'yaml', 'jsonpath=', 'custom-columns='],
    },
  ],
  words: 'clusters',
  run: async ({ flags, stdio, api, signal }) => {
    const cluster = oneCluster(flags.words);
    const output = outputOf(flags.text('output'), false);
    const { body } = await api().ask<ClusterAudit>({ path: lifecyclePath(cluster, 'audit'), signal });
    const entries = Array.isArray(body.operations) ? body.operations : [];
    if (output.form !== 'human') stdio.out(output.print([body]));
    else if (entries.length > 0) stdio.out(columnsText([HEAD, ...entries.map(row)]));
    const omitted = Number.isSafeInteger(body.omitted) ? Number(body.omitted) : 0;
    const verdict = omitted > 0 ? verifyFrom(entries, omitted) : verifyChain(entries);
    if (!verdict.ok) {
      throw new ExitError(EXIT.error, plainText(`the history of ${cluster} was tampered with: entry ${verdict.sequence}: ${verdict.why}`));
    }
    stdio.err(
      entries.length === 0
        ? 'no entries\n'
        : `${entries.length} entries, chain verified${omitted > 0 ? ` from entry ${omitted + 1} on` : ''}, last hash ${plainText(entries.at(-1)?.hash ?? '')}\n`,
    );
    return EXIT.done;
  },
};

/** The same as verifyChain, of a chain whose first `omitted` entries are not there: that they are what they were is for the agent to see. */
function verifyFrom(entries: readonly unknown[], omitted: number): ChainVerdict {
  let before: { sequence: number; hash: string } | undefined;
  for (const value of entries) {
    const sequence = before ? before.sequence + 1 : omitted + 1;
    const why =
      entryProblem(value) ?? followProblem(value as AuditEntry, before ?? { sequence: omitted, hash: (value as AuditEntry).previous });
    if (why !== undefined) return { ok: false, sequence, why };
    before = value as AuditEntry;
  }
  return { ok: true };
}

const HEAD = ['SEQ', 'TIME', 'OPERATION', 'STATUS', 'VERSION', 'BY', 'REASON', 'MESSAGE'];

/** An entry that was tampered with may lack anything. */
function row(entry: Partial<AuditEntry>): string[] {
  const { sequence, lastExecuted, operation, Status, currentVersion, requestedBy, reason, message } = entry;
  return [sequence, lastExecuted, operation, Status, currentVersion, requestedBy, reason, message].map((value) =>
    plainText(String(value ?? '').split('\n')[0] ?? ''),
  );
}
