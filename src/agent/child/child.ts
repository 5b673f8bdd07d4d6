import { stat } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import type { Cluster } from '@kubernetes/client-node';
import { type KubeClient, kubeClient } from '../../kube/client.ts';
import { loadKubeConfig } from '../../kube/config.ts';
import type { KubeAccess } from '../../kube/plain-config.ts';
import { VERSION } from '../../kube/version.ts';
import { trustSystemCAs } from '../trust.ts';
import type { ChildConnection } from '../upstream/settings.ts';

/** The cluster that the agent stands for; on a bare machine it may come later, or never. */
export type Child = {
  /** For requests of others: undefined while there is no cluster. */
  connection(): ChildConnection | undefined;
  /** For the agent's own: undefined while there is no cluster. The client changes when the kubeconfig does. */
  client(): KubeClient | undefined;
};

/** Bearer tokens of the kubeconfig (files that are renewed, exec plugins) are asked for again after so long. */
const TOKEN_MS = 5_000;
const LOOK_MS = 1_000;

type Loaded = {
  config: KubeAccess;
  connection: ChildConnection;
  client: KubeClient;
};

/**
 * Reads the kubeconfig at once, and again whenever the file changes. Rejects when it cannot be used and is not `optional`; later troubles leave what
 * was there before and are told to `onError`.
 */
export async function childCluster(options: {
  /** Path as it is at the moment; empty: the ServiceAccount of the pod; undefined: there is no cluster. */
  kubeconfig: () => string | undefined;
  /** The machine may have no cluster: then a file that is missing is no error. */
  optional: boolean;
  signal: AbortSignal;
  onError: (error: unknown) => void;
  lookMs?: number;
}): Promise<Child> {
  const { optional, signal, onError } = options;
  let loaded: Loaded | undefined;
  let seen = '';

  async function look(): Promise<void> {
    const kubeconfig = options.kubeconfig();
    if (kubeconfig === undefined) {
      forget();
      return;
    }
    if (kubeconfig === '') {
      if (loaded) await reread(loaded);
      else if (!optional) loaded = await load('');
      return;
    }
    const now = await stat(kubeconfig).then(
      ({ ino, mtimeMs, size }) => `${kubeconfig} ${ino} ${mtimeMs} ${size}`,
      (error: NodeJS.ErrnoException) => {
        if (optional && error.code === 'ENOENT') return '';
        throw new Error(`kubeconfig ${kubeconfig}: ${error.message}`, { cause: error });
      },
    );
    if (now === seen) {
      if (loaded) await reread(loaded);
      return;
    }
    const next = now === '' ? undefined : await load(kubeconfig);
    loaded?.client.close();
    loaded = next;
    seen = now;
  }

  function forget(): void {
    loaded?.client.close();
    loaded = undefined;
    seen = '';
  }

  await look();
  let looking = false;
  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    look()
      .catch(onError)
      .finally(() => {
        looking = false;
      });
  }, options.lookMs ?? LOOK_MS);
  signal.addEventListener(
    'abort',
    () => {
      clearInterval(timer);
      loaded?.client.close();
    },
    { once: true },
  );
  return { connection: () => loaded?.connection, client: () => loaded?.client };
}

async function load(kubeconfig: string): Promise<Loaded> {
  const config = await loadKubeConfig(kubeconfig);
  const connection = await connectionOf(config);
  return { config, connection, client: kubeClient(config, { userAgent: `fairlead-agent/${VERSION}` }) };
}

async function connectionOf(config: KubeAccess): Promise<ChildConnection> {
  const cluster = config.getCurrentCluster();
  if (!cluster) throw new Error('the kubeconfig has no current cluster: set current-context');
  const problem = unusable(cluster);
  if (problem) throw new Error(`the kubeconfig ${problem}`);
  const tls: RequestOptions = {};
  await config.applyToHTTPSOptions(tls);
  const part = (value: unknown): string | undefined => (value === undefined || value === null ? undefined : String(value));
  const [ca, cert, key] = [part(tls.ca), part(tls.cert), part(tls.key)];
  if (ca === undefined) trustSystemCAs();

  let bearer = { value: bearerOf(tls), at: performance.now() };
  let asking: Promise<string | undefined> | undefined;
  async function ask(): Promise<string | undefined> {
    const fresh: RequestOptions = {};
    await config.applyToHTTPSOptions(fresh);
    bearer = { value: bearerOf(fresh), at: performance.now() };
    return bearer.value;
  }
  return {
    server: cluster.server.replace(/\/+$/, ''),
    ca,
    ...(tls.servername && { servername: tls.servername }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    async authorization() {
      if (performance.now() - bearer.at < TOKEN_MS) return bearer.value;
      asking ??= ask().finally(() => {
        asking = undefined;
      });
      return await asking;
    },
  };
}

/**
 * Why callers' requests cannot go to this server as they are; undefined when they can. The library would honour a path and a proxy for the agent's own requests: the cluster would look
 * well, while those of callers, with the agent's credential, went past the proxy, or to what else stands at that address. A path cannot simply be put in front of theirs: with `..` in
 * any of its spellings a caller would leave it again.
 */
function unusable(cluster: Cluster): string | undefined {
  const url = URL.canParse(cluster.server) ? new URL(cluster.server) : undefined;
  if (url?.protocol !== 'https:')
    return 'has a server without https: nothing is sent without TLS; give it https://HOST:PORT of the API server';
  if (cluster.skipTLSVerify) return 'has insecure-skip-tls-verify: the agent always verifies; give it certificate-authority-data instead';
  if (url.pathname !== '/' || url.search || url.hash || url.username || url.password)
    return `leads to ${JSON.stringify(url.pathname)} at ${url.host}: the agent needs the API server itself, https://HOST:PORT with nothing behind it, not a way through another server`;
  if (cluster.proxyUrl) return 'has proxy-url: the agent reaches the API server of its cluster directly; run it where no proxy is needed';
  return undefined;
}

/** Certificates in files of their own are replaced without a word in the kubeconfig. The client sees to that by itself. */
async function reread(loaded: Loaded): Promise<void> {
  const { config } = loaded;
  const user = config.getCurrentUser();
  if (!user?.certFile && !user?.keyFile && !config.getCurrentCluster()?.caFile) return;
  loaded.connection = await connectionOf(config);
}

/** The Authorization header that the kubeconfig makes, user name and password included. */
function bearerOf({ headers, auth }: RequestOptions): string | undefined {
  if (headers && !Array.isArray(headers)) {
    for (const [name, value] of Object.entries(headers))
      if (name.toLowerCase() === 'authorization' && typeof value === 'string') return value;
  }
  return auth ? `Basic ${Buffer.from(auth).toString('base64')}` : undefined;
}
