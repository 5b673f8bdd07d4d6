import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { stringify } from 'yaml';
import type { InfraCluster } from '../../src/hub/clusters/schema.ts';
import { KubeError } from '../../src/kube/errors.ts';
import { readKubeconfig } from '../../src/kube/kubeconfig-file.ts';
import { adminKubeconfig } from './admin-kubeconfig.ts';
import { CHILD_CREDENTIAL_FLAGS, childCredential } from './child-credential.ts';
import { type ChildEntries, childCluster, childUser, standalone } from './child-entries.ts';
import { clusterName, clusterNote, isClusterID, readCluster } from './clusters.ts';
import type { Command } from './command.ts';
import { directAddress, FROM_HUB } from './direct-address.ts';
import { EXIT, type ExitCode, ExitError, UsageError } from './exit.ts';
import { type Access, resolveAccess } from './kubeconfig.ts';
import { mergeIntoKubeconfig } from './kubeconfig-merge.ts';
import { writeAtomically } from './locked-file.ts';
import { plainText } from './plain-text.ts';
import type { Session } from './session.ts';

/** `kubectl infra kubeconfig`. */
export const infraKubeconfig: Command = {
  name: 'kubectl infra kubeconfig',
  usage: 'CLUSTER',
  summary: 'Write a kubeconfig that reaches a child cluster through this one',
  description: `kubectl infra kubeconfig - write a kubeconfig that reaches a child cluster through this one.

It signs in here as you do now (certificate, token file, exec plugin: copied as they are), and you act in the child by the same name and groups: give
them rights there. Or bring a credential of the child (--as-child-token-file, --child-kubeconfig). --direct leads to the hub's own address instead
of through kube-apiserver, which is faster for large answers; it takes bearer tokens and client certificates of this cluster.
The kubeconfig goes to stdout, to a new file (-o, mode 0600), or as another context into your own kubeconfig (--merge); -n sets the context's
namespace. RBAC: "get" on clusters of infraops.michael.io, and on sockets/proxy of proxies.clusternet.io the verbs that you want to use.
--admin gives instead the own kubeconfig of a cluster that was made by kubectl infra lifecycle: all rights there, from wherever its machine can be reached.
RBAC: "get" on clusters/kubeconfig of infraops.michael.io.`,
  examples: [
    'kubectl infra kubeconfig edge-1 > edge-1.kubeconfig',
    'kubectl infra kubeconfig edge-1 --merge && kubectl --context edge-1 get pods -A',
    'kubectl infra kubeconfig edge-1 --direct -o edge-1.kubeconfig',
    'kubectl infra kubeconfig edge-1 --direct=https://hub.example.com:6443 --merge --context-name edge-1-direct',
    'kubectl infra kubeconfig edge-1 --as-child-token-file=token -o edge-1-sa.kubeconfig',
    'kubectl infra kubeconfig edge-1 --admin -o edge-1-admin.kubeconfig',
  ],
  flags: [
    {
      name: 'direct',
      kind: 'text',
      placeholder: 'URL',
      bare: FROM_HUB,
      help: "Lead to the hub's own address; without =URL to the one that the hub gives",
    },
    {
      name: 'context-name',
      kind: 'text',
      placeholder: 'NAME',
      help: 'Name of the context and of its cluster; by default the name of the cluster',
    },
    { name: 'merge', kind: 'switch', help: 'Add a context to your kubeconfig, or renew it; the current context stays', default: 'false' },
    { name: 'output', short: 'o', kind: 'text', placeholder: 'FILE', help: 'Write to this new file instead of stdout' },
    { name: 'overwrite', kind: 'switch', help: 'Replace a file or entries of that name that are there', default: 'false' },
    { name: 'admin', kind: 'switch', help: "The own kubeconfig of the cluster's administrator, from its machine", default: 'false' },
    ...CHILD_CREDENTIAL_FLAGS,
  ],
  words: 'clusters',
  run: async (session) => {
    const { flags, stdio } = session;
    const [word, ...more] = flags.words.map(clusterName);
    if (word === undefined || more.length > 0) throw new UsageError('which cluster? Give one name, see kubectl infra clusters');
    const file = flags.text('output');
    if (flags.on('admin')) return writeOut(session, await adminKubeconfig(session, word));
    if (flags.on('merge') && file) throw new UsageError('give either --merge or --output, not both');
    const contextName = flags.text('context-name');
    if (contextName === '') throw new UsageError('--context-name is empty');
    const child = childCredential(flags);
    const access = resolveAccess(flags, process.env);
    if (child && access.impersonate) {
      throw new UsageError(`a credential of the child travels as an impersonation, and you impersonate ${access.impersonate.user} already`);
    }
    const asked = flags.text('direct');
    const { id, name, cluster } = await find(session, word, asked !== undefined);
    const direct = asked === undefined ? undefined : directAddress(asked, cluster?.status, name);
    if (direct && !direct.ca) stdio.err(`the hub gives no CA for ${direct.url}: kubectl will go by the CAs that the machine trusts\n`);
    if (access.cluster['insecure-skip-tls-verify'] && !direct)
      stdio.err("the kubeconfig does not check the server's certificate, as the current one\n");
    if (cluster && !cluster.status?.connected)
      stdio.err(plainText(`note: cluster ${name} is not connected now (${clusterNote(cluster, Date.now())})\n`));

    const entryName = contextName ?? name;
    const entries: ChildEntries = {
      name: entryName,
      cluster: childCluster(access.cluster, id, direct),
      user: childUser(access, child),
      userName: entryName,
      namespace: flags.text('namespace') || undefined,
    };
    if (flags.on('merge')) return await merge(session, entries, access, id, child === undefined);
    return writeOut(session, stringify(standalone(entries), { lineWidth: 0, aliasDuplicateObjects: false }));
  },
};

/** To stdout, or to the file of --output. */
function writeOut({ flags, stdio }: Session, text: string): ExitCode {
  const file = flags.text('output');
  if (!file || file === '-') {
    stdio.out(text);
    return EXIT.done;
  }
  if (existsSync(file) && !flags.on('overwrite'))
    throw new ExitError(EXIT.error, `${file} is there already: use --overwrite, or --merge to add to it`);
  writeAtomically(resolve(file), text);
  stdio.out(`${file} written; use it: kubectl --kubeconfig ${file} get pods -A\n`);
  return EXIT.done;
}

/** Id and name of the cluster. Who may use a cluster need not be allowed to look at clusters: then its id is enough. */
async function find(session: Session, word: string, direct: boolean): Promise<{ id: string; name: string; cluster?: InfraCluster }> {
  try {
    const cluster = await readCluster(session.api(), word, session.signal);
    const id = cluster.spec.clusterID;
    if (!id) throw new ExitError(EXIT.error, `cluster "${word}" has no id yet (spec.clusterID is empty)`);
    // A cluster may be called like the id of another.
    if (isClusterID(word) && word.toLowerCase() !== id)
      throw new ExitError(EXIT.error, `"${word}" is the name of a cluster with the id ${id}: give that`);
    return { id, name: cluster.metadata?.name ?? word, cluster };
  } catch (error) {
    if (!(error instanceof KubeError) || error.code !== 403 || !isClusterID(word) || direct) throw error;
    return { id: word, name: word };
  }
}

const USER_FLAGS = ['token', 'client-certificate', 'client-key', 'username', 'password', 'as', 'as-group', 'as-uid', 'as-user-extra'];

async function merge(session: Session, entries: ChildEntries, access: Access, clusterID: string, asMyself: boolean): Promise<ExitCode> {
  const { flags, stdio } = session;
  const explicit = flags.text('kubeconfig');
  const config = readKubeconfig(explicit, process.env);
  const userName = flags.text('user') || config.contexts.get(access.context)?.user || '';
  // One entry for both contexts: a renewed certificate or token then serves both.
  const shared = asMyself && config.users.has(userName) && !USER_FLAGS.some((flag) => flags.given(flag));
  const merged = await mergeIntoKubeconfig(shared ? { ...entries, user: undefined, userName } : entries, {
    explicit,
    env: process.env,
    clusterID,
    overwrite: flags.on('overwrite'),
    signal: session.signal,
  });
  const at = explicit ? ` --kubeconfig ${explicit}` : '';
  stdio.out(
    `context "${entries.name}" ${merged.updated ? 'updated in' : 'added to'} ${merged.file}; use it: kubectl${at} --context ${entries.name} get pods -A\n`,
  );
  return EXIT.done;
}
