import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import type { Cluster, KubeConfig, User } from '@kubernetes/client-node';
import { type ClusterEntry, type Kubeconfig, parseKubeconfig, type UserEntry } from './kubeconfig-file.ts';

/** What is asked of a kubeconfig: where the server is, who we are there, and what proves both. */
export type KubeAccess = Pick<KubeConfig, 'getCurrentCluster' | 'getCurrentUser' | 'applyToHTTPSOptions'>;

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * The access of a kubeconfig whose proof is a certificate, a token or a password, in the file or in files beside it; undefined when it needs more (a program, a provider, a proxy,
 * impersonation), which is the library's affair. Files are read anew each time. Relative paths are relative to `folder`. Throws an Error when the text is no kubeconfig.
 */
export function plainAccess(text: string, folder: string): KubeAccess | undefined {
  const config = parseKubeconfig(text, folder);
  const context = config.contexts.get(config.currentContext);
  const cluster = context?.cluster === undefined ? undefined : config.clusters.get(context.cluster);
  const user = context?.user === undefined ? undefined : config.users.get(context.user);
  if (cluster?.['proxy-url'] || user?.exec || user?.['auth-provider'] || user?.as) return undefined;
  return access(named(config, 'cluster', cluster), named(config, 'user', user));
}

const named = <Entry extends object>({ contexts, currentContext }: Kubeconfig, kind: 'cluster' | 'user', entry: Entry | undefined) =>
  entry && { name: contexts.get(currentContext)?.[kind] ?? '', ...entry };

/** The pod's own ServiceAccount; undefined outside of a cluster. */
export function podAccess(env: NodeJS.ProcessEnv): KubeAccess | undefined {
  const [host, port] = [env['KUBERNETES_SERVICE_HOST'], env['KUBERNETES_SERVICE_PORT']];
  if (!host || !port) return undefined;
  return access(
    {
      name: 'inCluster',
      server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
      'certificate-authority': `${SERVICE_ACCOUNT}/ca.crt`,
    },
    { name: 'inClusterUser', tokenFile: `${SERVICE_ACCOUNT}/token` },
  );
}

function access(cluster: (ClusterEntry & { name: string }) | undefined, user: (UserEntry & { name: string }) | undefined): KubeAccess {
  return {
    getCurrentCluster: () => (cluster?.server ? clusterOf(cluster, cluster.server) : null),
    getCurrentUser: () => (user ? userOf(user) : null),
    async applyToHTTPSOptions(options: RequestOptions) {
      const ca = material(cluster?.['certificate-authority-data'], cluster?.['certificate-authority']);
      const cert = material(user?.['client-certificate-data'], user?.['client-certificate']);
      const key = material(user?.['client-key-data'], user?.['client-key']);
      if (ca) options.ca = ca;
      if (cert) options.cert = cert;
      if (key) options.key = key;
      if (cluster?.['tls-server-name']) options.servername = cluster['tls-server-name'];
      if (cluster?.['insecure-skip-tls-verify']) options.rejectUnauthorized = false;
      // As client-go: a file, which is renewed, wins over a token written beside it.
      const token = user?.tokenFile ? readFileSync(user.tokenFile, 'utf8').trim() : user?.token;
      if (token) options.headers = { ...options.headers, Authorization: `Bearer ${token}` };
      else if (user?.username) options.auth = `${user.username}:${user.password ?? ''}`;
    },
  };
}

/** Data in the kubeconfig wins over a file named beside it, as with kubectl. */
function material(data: string | undefined, file: string | undefined): Buffer | undefined {
  if (data) return Buffer.from(data, 'base64');
  return file ? readFileSync(file) : undefined;
}

const clusterOf = (entry: ClusterEntry & { name: string }, server: string): Cluster => ({
  name: entry.name,
  server,
  skipTLSVerify: entry['insecure-skip-tls-verify'] === true,
  ...(entry['certificate-authority-data'] && { caData: entry['certificate-authority-data'] }),
  ...(entry['certificate-authority'] && { caFile: entry['certificate-authority'] }),
  ...(entry['tls-server-name'] && { tlsServerName: entry['tls-server-name'] }),
});

const userOf = (entry: UserEntry & { name: string }): User => ({
  name: entry.name,
  ...(entry['client-certificate'] && { certFile: entry['client-certificate'] }),
  ...(entry['client-key'] && { keyFile: entry['client-key'] }),
});
