import type { Command } from './command.ts';
import { UsageError } from './exit.ts';
import { oneCluster } from './lifecycle.ts';
import { BODY_FLAGS, lifecycleBody } from './lifecycle-body.ts';
import { CHANGE_FLAGS, runChange } from './lifecycle-change.ts';

const ABOUT = `CLUSTER is the name of a machine with fairlead-agent that is registered here (kubectl infra clusters). The operation runs there by itself: a lost
connection or an end of this command does not stop it. --dry-run=server prints every command and file.`;
const RIGHT = (verb: string) => `RBAC: "${verb}" on clusters/lifecycle of infraops.michael.io, and "get" to wait.`;

/** `kubectl infra lifecycle create`. */
export const lifecycleCreate: Command = {
  name: 'kubectl infra lifecycle create',
  usage: 'CLUSTER [-f FILE]',
  summary: 'Make a machine a single-node cluster',
  description: `kubectl infra lifecycle create - make a machine a single-node cluster.

${ABOUT} ${RIGHT('create')}`,
  examples: [
    'kubectl infra lifecycle create edge-1 -f cluster.yaml',
    'kubectl infra lifecycle create edge-1 --set version=v1.36.3 --set networking.podSubnet=10.244.0.0/16',
    'kubectl infra lifecycle create edge-1 -f cluster.yaml --dry-run=server',
  ],
  flags: [...BODY_FLAGS, ...CHANGE_FLAGS],
  words: 'clusters',
  run: async (session) => {
    const cluster = oneCluster(session.flags.words);
    const body = lifecycleBody(session.flags);
    if (Object.keys(body).length === 0) throw new UsageError('what cluster? Give -f FILE, or --set version=VERSION');
    return await runChange(session, { cluster, method: 'POST', body, done: 'created' });
  },
};

/** `kubectl infra lifecycle upgrade`. */
export const lifecycleUpgrade: Command = {
  name: 'kubectl infra lifecycle upgrade',
  usage: 'CLUSTER --version=VERSION | CLUSTER -f FILE',
  summary: 'Upgrade the cluster on a machine',
  description: `kubectl infra lifecycle upgrade - bring the cluster on a machine to a later patch, or to the next minor version.

What is in etcd is saved before, and brought back when the upgrade fails.
${ABOUT} ${RIGHT('update')}`,
  examples: [
    'kubectl infra lifecycle upgrade edge-1 --version=v1.36.3',
    'kubectl infra lifecycle upgrade edge-1 -f cluster.yaml --timeout=1h',
  ],
  flags: [
    { name: 'version', kind: 'text', placeholder: 'VERSION', help: 'Version of Kubernetes, for example v1.36.3' },
    ...BODY_FLAGS,
    ...CHANGE_FLAGS,
  ],
  words: 'clusters',
  run: async (session) => {
    const cluster = oneCluster(session.flags.words);
    const version = session.flags.text('version');
    const body = lifecycleBody(session.flags);
    const spec = { ...(body['spec'] as object | undefined), ...(version !== undefined && { version }) };
    if (!('version' in spec)) throw new UsageError('to which version? Give --version=VERSION, or a file with spec.version');
    return await runChange(session, { cluster, method: 'PUT', body: { ...body, spec }, done: 'upgraded' });
  },
};

/** `kubectl infra lifecycle patch`. */
export const lifecyclePatch: Command = {
  name: 'kubectl infra lifecycle patch',
  usage: 'CLUSTER --set PATH=VALUE | CLUSTER -f FILE',
  summary: 'Change the cluster on a machine',
  description: `kubectl infra lifecycle patch - change fields of the cluster on a machine (JSON merge patch; the value null takes a field away).

${ABOUT} ${RIGHT('patch')}`,
  examples: [
    'kubectl infra lifecycle patch edge-1 --set disableWorkloads=true',
    'kubectl infra lifecycle patch edge-1 --set extraArgs.apiServer.audit-log-maxage=30',
    'kubectl infra lifecycle patch edge-1 -f change.yaml',
  ],
  flags: [...BODY_FLAGS, ...CHANGE_FLAGS],
  words: 'clusters',
  run: async (session) => {
    const cluster = oneCluster(session.flags.words);
    const body = lifecycleBody(session.flags);
    if (Object.keys(body).length === 0) throw new UsageError('what to change? Give --set PATH=VALUE, or -f FILE');
    return await runChange(session, { cluster, method: 'PATCH', contentType: 'application/merge-patch+json', body, done: 'changed' });
  },
};

/** `kubectl infra lifecycle delete`. */
export const lifecycleDelete: Command = {
  name: 'kubectl infra lifecycle delete',
  usage: 'CLUSTER --yes',
  summary: 'Remove the cluster from a machine',
  description: `kubectl infra lifecycle delete - remove the cluster from a machine, and leave the machine as it was before. All that ran in the cluster is lost.

${ABOUT} ${RIGHT('delete')}`,
  examples: ['kubectl infra lifecycle delete edge-1 --dry-run=server', 'kubectl infra lifecycle delete edge-1 --yes'],
  flags: [{ name: 'yes', short: 'y', kind: 'switch', help: 'The cluster is really to be removed', default: 'false' }, ...CHANGE_FLAGS],
  words: 'clusters',
  run: async (session) => {
    const cluster = oneCluster(session.flags.words);
    if (!session.flags.on('yes') && session.flags.text('dry-run') !== 'server')
      throw new UsageError(`this removes the cluster on ${cluster} with all that is in it: repeat the command with --yes`);
    return await runChange(session, { cluster, method: 'DELETE', done: 'deleted' });
  },
};

/** `kubectl infra lifecycle repair`. */
export const lifecycleRepair: Command = {
  name: 'kubectl infra lifecycle repair',
  usage: 'CLUSTER',
  summary: 'Put files and settings back as the operations wrote them',
  description: `kubectl infra lifecycle repair - put files and sysctls of a machine back that are no longer as the operations wrote them (status.drift).

${ABOUT} RBAC: "create" on clusters/repair of infraops.michael.io, and "get" on clusters/lifecycle to wait.`,
  examples: ['kubectl infra lifecycle repair edge-1 --dry-run=server', 'kubectl infra lifecycle repair edge-1'],
  flags: CHANGE_FLAGS,
  words: 'clusters',
  run: async (session) =>
    await runChange(session, { cluster: oneCluster(session.flags.words), subresource: 'repair', method: 'POST', done: 'repaired' }),
};

/** `kubectl infra restart-machine`. */
export const infraRestartMachine: Command = {
  name: 'kubectl infra restart-machine',
  usage: 'CLUSTER',
  summary: 'Restart the machine of a single-node cluster',
  description: `kubectl infra restart-machine - restart the machine of a single-node cluster through its agent. Done when the machine is back with a new boot id and,
where there is a cluster, its node is Ready again. Nothing is drained: on a single node there is nowhere to go.

RBAC: "create" on clusters/restart of infraops.michael.io, and "get" on clusters/lifecycle to wait.`,
  examples: ['kubectl infra restart-machine edge-1', 'kubectl infra restart-machine edge-1 --timeout=5m'],
  flags: CHANGE_FLAGS,
  words: 'clusters',
  run: async (session) => {
    const cluster = oneCluster(session.flags.words);
    return await runChange(session, { cluster, subresource: 'restart', method: 'POST', done: 'restarted' });
  },
};
