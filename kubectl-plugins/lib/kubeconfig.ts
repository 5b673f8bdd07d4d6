import { existsSync, readFileSync } from 'node:fs';
import type { Impersonation } from '../../src/kube/client.ts';
import { type ClusterEntry, type Kubeconfig, kubeconfigPaths, readKubeconfig, type UserEntry } from '../../src/kube/kubeconfig-file.ts';
import { UsageError } from './exit.ts';
import type { ParsedFlags } from './flags.ts';

/** Which server to talk to and as whom: what is left of kubeconfig and flags when every rule has been applied. */
export type Access = {
  /** Name of the context, '' when there is none. */
  context: string;
  cluster: ClusterEntry & { server: string };
  user: UserEntry;
  impersonate: Impersonation | undefined;
};

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * Applies kubectl's flags to the kubeconfig, as client-go's overrides do; without kubeconfig and flags the pod's own ServiceAccount is used.
 * Throws an Error with one clear sentence.
 */
export function resolveAccess(flags: ParsedFlags, env: NodeJS.ProcessEnv): Access {
  const config = readKubeconfig(flags.text('kubeconfig'), env);
  const contextName = flags.text('context') || config.currentContext;
  const context = config.contexts.get(contextName);
  if (contextName !== '' && !context) throw new Error(missing('context', contextName, config));
  const clusterName = flags.text('cluster') || context?.cluster || '';
  const userName = flags.text('user') || context?.user || '';
  if (flags.text('cluster') && !config.clusters.has(clusterName)) throw new Error(missing('cluster', clusterName, config));
  if (flags.text('user') && !config.users.has(userName)) throw new Error(missing('user', userName, config));

  const cluster = clusterWithFlags(config.clusters.get(clusterName) ?? {}, flags);
  const user = userWithFlags(config.users.get(userName) ?? {}, flags);
  if (!cluster.server) {
    const pod = clusterName === '' && contextName === '' ? inCluster(env) : undefined;
    if (pod) return { context: '', ...pod, impersonate: impersonation(userWithFlags(pod.user, flags), flags) };
    throw new Error(noServer(clusterName, config, flags, env));
  }
  if (cluster['insecure-skip-tls-verify'] && (cluster['certificate-authority'] || cluster['certificate-authority-data'])) {
    throw new Error('a certificate authority and insecure-skip-tls-verify exclude each other: remove one of them from the kubeconfig');
  }
  const server = /^[a-z]+:\/\//i.test(cluster.server) ? cluster.server : `http://${cluster.server}`;
  if (!URL.canParse(server)) throw new Error(`the server address "${cluster.server}" is not a URL`);
  return { context: contextName, cluster: { ...cluster, server }, user, impersonate: impersonation(user, flags) };
}

function missing(kind: string, name: string, config: Kubeconfig): string {
  const known = [...(kind === 'context' ? config.contexts : kind === 'cluster' ? config.clusters : config.users).keys()];
  const where = config.files.length > 0 ? config.files.join(', ') : 'no kubeconfig was found';
  return `${kind} "${name}" does not exist (${where}); ${known.length > 0 ? `there are: ${known.slice(0, 10).join(', ')}` : 'there is none'}`;
}

function noServer(clusterName: string, config: Kubeconfig, flags: ParsedFlags, env: NodeJS.ProcessEnv): string {
  if (config.files.length === 0) {
    const looked = kubeconfigPaths(flags.text('kubeconfig'), env).join(', ');
    return `no kubeconfig found (looked for ${looked}): set KUBECONFIG, or use --kubeconfig FILE`;
  }
  if (clusterName === '') return `no current context in ${config.files.join(', ')}: use --context NAME, or kubectl config use-context NAME`;
  return `cluster "${clusterName}" has no server in ${config.files.join(', ')}`;
}

function clusterWithFlags(entry: ClusterEntry, flags: ParsedFlags): ClusterEntry {
  const cluster: ClusterEntry = { ...entry };
  const server = flags.text('server');
  const serverName = flags.text('tls-server-name');
  if (server) cluster.server = server;
  // The name belongs to the server it was written for.
  if (server || serverName) {
    delete cluster['tls-server-name'];
    if (serverName) cluster['tls-server-name'] = serverName;
  }
  const authority = flags.text('certificate-authority');
  const insecure = flags.on('insecure-skip-tls-verify');
  if (authority || insecure) {
    delete cluster['certificate-authority-data'];
    delete cluster['certificate-authority'];
    if (authority) cluster['certificate-authority'] = authority;
    cluster['insecure-skip-tls-verify'] = insecure;
  } else if (flags.given('insecure-skip-tls-verify')) {
    cluster['insecure-skip-tls-verify'] = false;
  }
  return cluster;
}

function userWithFlags(entry: UserEntry, flags: ParsedFlags): UserEntry {
  const user: UserEntry = { ...entry };
  const take = (
    flag: string,
    field: 'client-certificate' | 'client-key' | 'token' | 'username' | 'password',
    ...replaces: (keyof UserEntry)[]
  ) => {
    const value = flags.text(flag);
    if (!value) return;
    for (const other of replaces) delete user[other];
    user[field] = value;
  };
  take('client-certificate', 'client-certificate', 'client-certificate-data');
  take('client-key', 'client-key', 'client-key-data');
  take('token', 'token', 'tokenFile', 'exec', 'auth-provider');
  take('username', 'username');
  take('password', 'password');
  return user;
}

function impersonation(user: UserEntry, flags: ParsedFlags): Impersonation | undefined {
  const name = flags.text('as') || user.as;
  const groups = flags.given('as-group') ? flags.list('as-group') : (user['as-groups'] ?? []);
  const uid = flags.text('as-uid') || user['as-uid'];
  const extra = flags.given('as-user-extra') ? extraOf(flags.list('as-user-extra')) : (user['as-user-extra'] ?? {});
  if (!name) {
    if (groups.length > 0 || uid || Object.keys(extra).length > 0) {
      throw new UsageError('--as-group, --as-uid and --as-user-extra need --as: a group cannot be impersonated without a user');
    }
    return undefined;
  }
  return { user: name, ...(groups.length > 0 && { groups }), ...(uid && { uid }), ...(Object.keys(extra).length > 0 && { extra }) };
}

function extraOf(pairs: string[]): Record<string, string[]> {
  const extra: Record<string, string[]> = {};
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    if (equals < 1) throw new UsageError(`--as-user-extra takes key=value, not "${pair}"`);
    const key = pair.slice(0, equals);
    extra[key] = [...(extra[key] ?? []), pair.slice(equals + 1)];
  }
  return extra;
}

function inCluster(env: NodeJS.ProcessEnv): Pick<Access, 'cluster' | 'user'> | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT'];
  if (!host || !port || !existsSync(`${SERVICE_ACCOUNT}/token`)) return undefined;
  return {
    cluster: {
      server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
      'certificate-authority-data': readFileSync(`${SERVICE_ACCOUNT}/ca.crt`).toString('base64'),
    },
    user: { tokenFile: `${SERVICE_ACCOUNT}/token` },
  };
}
