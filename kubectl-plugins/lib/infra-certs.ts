import type { CertificateInfo } from '../../src/kube/lifecycle.ts';
import type { Command } from './command.ts';
import { EXIT, UsageError } from './exit.ts';
import { lifecyclePath, oneCluster } from './lifecycle.ts';
import { CHANGE_FLAGS, runChange } from './lifecycle-change.ts';
import { outputOf } from './output.ts';
import { plainText } from './plain-text.ts';
import { columnsText } from './table.ts';

type ClusterCertificates = { apiVersion?: string; kind?: string; metadata?: { name?: string }; CertsInfo: CertificateInfo[] };

/** `kubectl infra certs`. */
export const infraCerts: Command = {
  name: 'kubectl infra certs',
  usage: 'CLUSTER',
  summary: 'Certificates of the cluster on a machine, and their rotation',
  description: `kubectl infra certs - show the certificates of the cluster on a machine; with --rotate renew them now. The agent renews them by itself before they end.

RBAC: "get" on clusters/certs of infraops.michael.io; to rotate "delete" on it, and "get" on clusters/lifecycle to wait.`,
  examples: ['kubectl infra certs edge-1', 'kubectl infra certs edge-1 --rotate'],
  flags: [{ name: 'rotate', kind: 'switch', help: 'Renew all of them now', default: 'false' }, ...CHANGE_FLAGS],
  words: 'clusters',
  run: async (session) => {
    const { flags, stdio, signal } = session;
    const cluster = oneCluster(flags.words);
    if (flags.on('rotate'))
      return await runChange(session, { cluster, subresource: 'certs', method: 'DELETE', done: 'certificates rotated' });
    const idle = CHANGE_FLAGS.find(({ name }) => name !== 'output' && flags.given(name));
    if (idle) throw new UsageError(`--${idle.name} has no effect without --rotate`);
    const output = outputOf(flags.text('output'), false);
    const { body } = await session.api().ask<ClusterCertificates>({ path: lifecyclePath(cluster, 'certs'), signal });
    if (output.form !== 'human') {
      stdio.out(output.print([body]));
      return EXIT.done;
    }
    const rows = body.CertsInfo.map(({ name, remainingDaysToExpire, expiryDate }) =>
      [name, remainingDaysToExpire, expiryDate].map(plainText),
    );
    if (rows.length > 0) stdio.out(columnsText([['NAME', 'DAYS-LEFT', 'EXPIRES'], ...rows]));
    else stdio.err('No certificates found\n');
    return EXIT.done;
  },
};
