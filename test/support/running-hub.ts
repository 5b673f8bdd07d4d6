import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { issueCertificate } from '../../src/hub/certificates/x509.ts';
import { parseOptions } from '../../src/hub/options.ts';
import { startHub } from '../../src/hub/server.ts';
import { makeCa, makeClient, makeServer } from '../hub/auth/pki.ts';
import { type KubeApi, kubeApi } from './kube-api.ts';

export type Answer = { code: number; headers: Record<string, string | string[] | undefined>; body: string };
export type Ask = {
  method?: string;
  path: string;
  /** Who the front proxy says it is; absent: nobody, without a certificate. */
  user?: string;
  groups?: string[];
  token?: string;
  body?: string;
  headers?: Record<string, string | string[]>;
};

/** The whole hub in this process, on loopback, over an in-memory API. */
export type RunningHub = {
  api: KubeApi;
  port: number;
  ca: string;
  ask(request: Ask): Promise<Answer>;
  /** All that was logged so far. */
  log(): string;
  audit(): Promise<string>;
  /** Users that may do what; everybody else may nothing. Default: `admin` may all. */
  allow(decide: (user: string, attributes: Record<string, string>) => boolean): void;
  close(): Promise<void>;
};

/** `args` are further flags. `tokens`: bearer tokens and whose they are. `apiToken` is the hub's own for the API. */
export async function runningHub(
  options: {
    args?: string[];
    tokens?: Record<string, string>;
    apiToken?: string;
    prepare?: (api: KubeApi, folder: string) => Promise<string[]>;
  } = {},
): Promise<RunningHub> {
  const folder = await mkdtemp(join(tmpdir(), 'hub-'));
  const [serverCa, proxyCa] = [makeCa('server-ca'), makeCa('front-proxy-ca')];
  const [serving, proxy] = [makeServer(serverCa), makeClient(proxyCa, 'front-proxy-client')];
  const tls = issueCertificate({
    commonName: 'api',
    altNames: ['127.0.0.1'],
    usages: ['serverAuth'],
    issuer: serverCa,
    notBefore: new Date(Date.now() - 86_400_000),
    notAfter: new Date(Date.now() + 86_400_000),
  });
  const api = await kubeApi({
    tls: { cert: tls.cert, key: tls.key, ca: serverCa.cert },
    ...(options.apiToken && { token: options.apiToken }),
  });
  let log = '';
  let decide: (user: string, attributes: Record<string, string>) => boolean = (user) => user === 'admin';
  api.onReview((kind, spec) => {
    if (kind === 'TokenReview') {
      const username = options.tokens?.[String(spec['token'])];
      return username ? { authenticated: true, user: { username, groups: ['system:authenticated'] } } : {};
    }
    const attributes = (spec['resourceAttributes'] ?? spec['nonResourceAttributes']) as Record<string, string>;
    return { allowed: decide(String(spec['user']), attributes) };
  });
  api.put('/api/v1/namespaces/kube-system/configmaps', {
    metadata: { name: 'extension-apiserver-authentication' },
    data: {
      'requestheader-client-ca-file': proxyCa.cert,
      'requestheader-allowed-names': '["front-proxy-client"]',
      'requestheader-username-headers': '["X-Remote-User"]',
      'requestheader-group-headers': '["X-Remote-Group"]',
      'requestheader-extra-headers-prefix': '["X-Remote-Extra-"]',
    },
  });
  const file = async (name: string, text: string) => {
    await writeFile(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const more = (await options.prepare?.(api, folder)) ?? [];
  const parsed = parseOptions(
    [
      `--kubeconfig=${await file('kubeconfig', api.config.exportConfig())}`,
      '--bind-address=127.0.0.1',
      '--secure-port=0',
      `--tls-cert-file=${await file('cert.pem', serving.cert)}`,
      `--tls-private-key-file=${await file('key.pem', serving.key)}`,
      `--audit-log-path=${join(folder, 'audit.log')}`,
      '--namespace=fairlead-system',
      '--shutdown-delay=0',
      '--shutdown-timeout=1s',
      ...more,
      ...(options.args ?? []),
    ],
    {},
  );
  if ('print' in parsed) throw new Error('nothing to print');
  const write = (text: string) => {
    log += text;
  };
  const hub = await startHub(parsed, pino({ level: 'trace', base: null }, { write }));

  async function ask({ method = 'GET', path, user, groups = [], token, body, headers = {} }: Ask): Promise<Answer> {
    return await new Promise((resolve, reject) => {
      const sent = request(
        {
          host: '127.0.0.1',
          port: hub.port,
          ca: serverCa.cert,
          servername: 'localhost',
          method,
          path,
          agent: false,
          headers: {
            ...(body !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
            ...headers,
            ...(user !== undefined && { 'x-remote-user': user, 'x-remote-group': groups }),
            ...(token && { authorization: `Bearer ${token}` }),
          },
          ...(user !== undefined && { cert: proxy.cert, key: proxy.key }),
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () =>
            resolve({ code: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() }),
          );
        },
      );
      sent.on('error', reject);
      sent.end(body);
    });
  }

  return {
    api,
    port: hub.port,
    ca: serverCa.cert,
    ask,
    log: () => log,
    audit: () => readFile(join(folder, 'audit.log'), 'utf8'),
    allow(given) {
      decide = given;
    },
    async close() {
      await hub.stop();
      await api.close();
      await rm(folder, { recursive: true });
    },
  };
}
