import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODE_FLAGS } from '../../src/kube/node-flags.ts';
import type { Child } from './child.ts';
import { accessKinds, applyObjects, kustomizeObjects } from './hub-objects.ts';
import { writeKubeconfig } from './kubeconfig.ts';
import type { Lab } from './lab.ts';
import type { NetworkNamespace } from './network.ts';
import { type LabProcess, readyOrEnded, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

const SOCKETS = '/apis/proxies.clusternet.io/v1alpha1/sockets';
const CLUSTERS = '/apis/infraops.michael.io/v1/clusters';
const entryOfSources = fileURLToPath(new URL('../../src/agent/main.ts', import.meta.url));
const deployed = fileURLToPath(new URL('../../deploy/agent', import.meta.url));
/** The group that a bootstrap token must be in to register a cluster. */
export const bootstrapGroup = 'system:bootstrappers:clusternet:register-cluster-token';
const childNamespace = 'clusternet-system';

/** Makes a bootstrap token in `lab` and returns it: `id.secret`. */
export async function bootstrapToken(
  lab: Lab,
  { groups = bootstrapGroup, seconds = 3600 }: { groups?: string; seconds?: number } = {},
): Promise<string> {
  const id = randomBytes(3).toString('hex');
  const secret = randomBytes(8).toString('hex');
  const stringData = {
    'token-id': id,
    'token-secret': secret,
    expiration: new Date(Date.now() + seconds * 1000).toISOString(),
    'usage-bootstrap-authentication': 'true',
    'auth-extra-groups': groups,
  };
  const metadata = { name: `bootstrap-token-${id}`, namespace: 'kube-system' };
  const body = { apiVersion: 'v1', kind: 'Secret', type: 'bootstrap.kubernetes.io/token', metadata, stringData };
  await lab.api.json('POST', '/api/v1/namespaces/kube-system/secrets', { body });
  return `${id}.${secret}`;
}

export type AgentOptions = {
  /** Default child. */
  clusterName?: string;
  /** Added after the lab's own flags. */
  flags?: readonly string[];
  env?: Record<string, string>;
  /** The program that Node runs; default src/agent/main.ts. */
  entry?: string;
  /** Default: one that is made in the parent. */
  token?: string;
  /** Where it runs, and how it reaches both API servers from there. Default: on the machine, by 127.0.0.1. */
  network?: { namespace: NetworkNamespace; parentURL: string; childURL: string };
  /** False: resolves as soon as the process runs. */
  wait?: boolean;
};

/** A process of the agent. Ended by `stop`, or with the child. */
export type AgentProcess = {
  clusterName: string;
  log: string;
  /** Of the running process; throws when there is none. */
  pid(): number;
  /** The cluster's id in the parent: the uid of the agent's Lease in the child. Rejects while there is none. */
  clusterID(): Promise<string>;
  /** Resolves when requests reach the child through the parent; rejects with the end of the log when the process ended. */
  waitForConnected(timeout?: number): Promise<void>;
  /** Resolves when the hub counts so many tunnels of the cluster. */
  waitForTunnels(count: number, timeout?: number): Promise<void>;
  /** Path under the parent's URL that leads to `path` of the child's API server. */
  proxyPath(path?: string): Promise<string>;
  /** Path of a kubeconfig that goes through the parent to the child, as a user of the parent. */
  kubeconfigFor(user: { user: string; groups?: readonly string[] }): Promise<string>;
  /** SIGKILL unless told otherwise. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again after it ended; does not wait for the connection. */
  start(): Promise<void>;
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
};

/** Who the agent is in the child, by deploy/agent. Returns the name of its ServiceAccount. */
async function applyAgentObjects(lab: Lab): Promise<string> {
  const objects = existsSync(deployed) ? await kustomizeObjects(lab, deployed) : [];
  const account = objects.find(({ kind }) => kind === 'ServiceAccount');
  if (!account) throw new Error(`${deployed} has no ServiceAccount`);
  await applyObjects(
    lab,
    objects.filter(({ kind }) => kind === 'Namespace'),
  );
  await applyObjects(
    lab,
    objects.filter(({ kind }) => accessKinds.includes(kind)),
  );
  return account.metadata.name;
}

/** Starts an agent that stands for `child` in `parent`, and resolves when requests reach the child through the parent. */
export async function startAgent(child: Child, parent: Lab, options: AgentOptions = {}): Promise<AgentProcess> {
  const { clusterName = 'child', entry = entryOfSources, network } = options;
  const dir = join(child.lab.dir, `agent-${clusterName}`);
  mkdirSync(dir, { mode: 0o700, recursive: true });
  const account = await applyAgentObjects(child.lab);
  const kubeconfig = writeKubeconfig(join(dir, 'kubeconfig'), {
    server: network?.childURL ?? child.lab.apiServerURL,
    ca: child.lab.ca,
    user: account,
    credentials: { token: await child.lab.serviceAccountToken(childNamespace, account, 7 * 24 * 3600) },
    namespace: childNamespace,
  });
  const files = { ca: join(dir, 'parent-ca.crt'), token: join(dir, 'token') };
  writeFileSync(files.ca, parent.ca, { mode: 0o600 });
  writeFileSync(files.token, options.token ?? (await bootstrapToken(parent)), { mode: 0o600 });
  const log = join(dir, 'agent.log');
  let proc: LabProcess | undefined;

  const start = async (): Promise<void> => {
    if (proc?.running()) return;
    const args = [
      ...NODE_FLAGS,
      entry,
      `--parent-url=${network?.parentURL ?? parent.apiServerURL}`,
      `--parent-ca-file=${files.ca}`,
      `--bootstrap-token-file=${files.token}`,
      `--kubeconfig=${kubeconfig}`,
      `--namespace=${childNamespace}`,
      `--cluster-name=${clusterName}`,
      // As the name of a machine: one that was killed does not wait for the end of its own Lease.
      `--identity=${clusterName}`,
      ...(options.flags ?? []),
    ];
    const [command, all] = network ? network.namespace.command(process.execPath, args) : [process.execPath, args];
    proc = await startProcess({ name: `agent-${clusterName}`, command, args: all, env: { HOME: dir, ...options.env }, log });
  };
  const running = (): LabProcess => {
    if (!proc?.running()) throw new Error(`the agent of ${clusterName} does not run; see ${log}`);
    return proc;
  };
  const clusterID = async () => {
    const path = `/apis/coordination.k8s.io/v1/namespaces/${childNamespace}/leases/clusternet-agent`;
    const { metadata } = await child.lab.api.json<{ metadata: { uid: string; annotations?: Record<string, string> } }>('GET', path);
    return metadata.annotations?.['legacy-cluster-id'] ?? metadata.uid;
  };
  const proxyPath = async (path = '') => `${SOCKETS}/${await clusterID()}/proxy/direct${path}`;
  const waitForConnected = async (timeout = 60_000) => {
    await readyOrEnded(running(), (signal) => {
      const answered = async () => {
        const { status, text } = await parent.api.request('GET', await proxyPath('/version'), { signal });
        // 403 is the child's or the agent's word: it was reached.
        if (status !== 200 && status !== 403) throw new Error(`${status} ${text.slice(0, 300)}`);
        return true;
      };
      return waitFor(answered, { what: `the agent of ${clusterName} to be connected`, timeout, signal });
    });
  };
  const stop = async () => proc?.stop('SIGTERM', 30_000);

  child.lab.defer(async () => {
    if (!proc?.running()) return;
    process.kill(proc.pid, 'SIGCONT');
    await proc.stop('SIGKILL');
  });
  await start();
  if (options.wait !== false) await waitForConnected();

  return {
    clusterName,
    log,
    pid: () => running().pid,
    clusterID,
    waitForConnected,
    async waitForTunnels(count, timeout = 60_000) {
      const path = `${CLUSTERS}/${await clusterID()}`;
      const counted = async () => {
        const { status } = await parent.api.json<{ status?: { tunnels?: number } }>('GET', path);
        if (status?.tunnels !== count) throw new Error(`there are ${status?.tunnels}`);
        return true;
      };
      await waitFor(counted, { what: `${count} tunnels of ${clusterName}`, timeout });
    },
    proxyPath,
    async kubeconfigFor({ user, groups = [] }) {
      return writeKubeconfig(join(dir, `kubeconfig-${user}`), {
        server: `${parent.apiServerURL}${await proxyPath()}`,
        ca: parent.ca,
        user,
        credentials: parent.clientCertificate({ user, groups }),
      });
    },
    kill: async (signal = 'SIGKILL') => proc?.stop(signal, 30_000),
    start,
    freeze: () => {
      process.kill(running().pid, 'SIGSTOP');
    },
    thaw: () => {
      process.kill(running().pid, 'SIGCONT');
    },
    stop,
  };
}
