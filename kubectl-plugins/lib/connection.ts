import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import type { RequestOptions } from 'node:https';
import { getCACertificates, rootCertificates } from 'node:tls';
import type { Cluster, KubeConfig } from '@kubernetes/client-node';
import { type KubeClient, type KubeRequest, kubeClient } from '../../src/kube/client.ts';
import { KubeError } from '../../src/kube/errors.ts';
import { proxyFromEnvironment } from '../../src/kube/proxy-environment.ts';
import { type CredentialSource, credentialSource } from './credentials.ts';
import type { Access } from './kubeconfig.ts';
import { proxyAgent } from './proxy-agent.ts';

export type Connection = {
  /** The answer as it arrives. Throws KubeError for codes from 300 on, KubeUnreachableError when no answer came. */
  open(request: KubeRequest): Promise<IncomingMessage>;
  readonly server: string;
  close(): void;
};

export type ConnectionOptions = {
  interactive: boolean;
  userAgent: string;
  /** Told of every request, for -v. */
  trace?: (line: string) => void;
  signal?: AbortSignal;
};

/** A connection with the credentials of `access`. When the server answers 401 an exec plugin is asked once more, as kubectl does. */
export function connect(access: Access, options: ConnectionOptions): Connection {
  const { cluster } = access;
  const server = new URL(cluster.server);
  const proxyUrl = cluster['proxy-url'] || proxyFromEnvironment(server, process.env);
  const credentials = credentialSource(access, options.interactive, options.signal);
  const config = transport(cluster, server, proxyUrl, credentials);
  const open = () => kubeClient(config, { userAgent: options.userAgent, ...(access.impersonate && { impersonate: access.impersonate }) });
  let client: KubeClient = open();

  async function traced(request: KubeRequest): Promise<IncomingMessage> {
    const began = performance.now();
    const line = (result: string) =>
      options.trace?.(
        `${request.method ?? 'GET'} ${client.server}${request.path} ${result} in ${Math.round(performance.now() - began)} ms`,
      );
    try {
      const response = await client.stream(request);
      line(`${response.statusCode} ${response.statusMessage ?? ''}`.trim());
      return response;
    } catch (error) {
      line(error instanceof KubeError ? String(error.code) : error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  return {
    server: client.server,
    close: () => client.close(),
    async open(request) {
      try {
        return await traced(request);
      } catch (error) {
        if (!(error instanceof KubeError) || error.code !== 401 || !credentials.refused()) throw error;
        client.close();
        client = open();
        return await traced(request);
      }
    },
  };
}

/** The two members of client-node's KubeConfig that kubeClient uses; the library itself would bring undici (Node 22) and 2 MB of generated classes. */
function transport(
  cluster: Access['cluster'],
  server: URL,
  proxyUrl: string | undefined,
  credentials: CredentialSource,
): Pick<KubeConfig, 'getCurrentCluster' | 'applyToHTTPSOptions'> {
  const secure = server.protocol === 'https:';
  const described: Cluster = {
    name: 'cluster',
    server: cluster.server,
    skipTLSVerify: cluster['insecure-skip-tls-verify'] ?? false,
    ...(proxyUrl && { proxyUrl }),
  };
  const shape: ReturnType<typeof transport> = {
    getCurrentCluster: () => described,
    async applyToHTTPSOptions(options: RequestOptions) {
      const { authorization, certificate, key } = await credentials.current();
      if (authorization) options.headers = { authorization };
      if (secure) {
        const ca = authorities(cluster);
        if (ca) options.ca = ca;
        if (certificate) options.cert = certificate;
        if (key) options.key = key;
        if (cluster['tls-server-name']) options.servername = cluster['tls-server-name'];
        if (cluster['insecure-skip-tls-verify']) options.rejectUnauthorized = false;
      }
      if (proxyUrl) {
        const { ca, cert, key: privateKey, servername, rejectUnauthorized } = options;
        options.agent = proxyAgent(proxyUrl, secure, {
          ...(ca && { ca }),
          ...(cert && { cert }),
          ...(privateKey && { key: privateKey as string | Buffer }),
          ...(servername && { servername }),
          ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
        });
      }
    },
  };
  return shape;
}

function authorities(cluster: Access['cluster']): (string | Buffer)[] | undefined {
  const data = cluster['certificate-authority-data'];
  const file = cluster['certificate-authority'];
  if (data) return [Buffer.from(data, 'base64')];
  if (file) return [readFileSync(file)];
  if (cluster['insecure-skip-tls-verify']) return undefined;
  // kubectl trusts what the machine trusts; Node alone trusts only its built-in list. Nodes before 22.15 cannot read the machine's.
  return typeof getCACertificates === 'function' ? [...rootCertificates, ...getCACertificates('system')] : undefined;
}
