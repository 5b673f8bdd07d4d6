import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { isIP, connect as tcpConnect } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, getCACertificates, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { type KubeClient, kubeClient } from '../../kube/client.ts';
import { connectThroughHttp } from '../../kube/proxy-connect.ts';
import { proxyFromEnvironment } from '../../kube/proxy-environment.ts';
import { VERSION } from '../../kube/version.ts';
import { unblocked } from '../../tunnel/unblocked.ts';
import { trustSystemCAs } from '../trust.ts';

/** An API server to connect to. `caFile` or else `ca` (PEM) says whom to trust; with neither, the system's certificates do. */
export type ParentOptions = { url: string; caFile: string; ca: string; serverName: string };

/** The way to a parent: TLS, always verified, through the proxy that the environment asks for. */
export type Parent = {
  url: URL;
  /** A TLS connection that speaks HTTP/1.1. Rejects with an Error that names the server, and after 10 s. */
  open(signal: AbortSignal): Promise<TLSSocket>;
  /** A client with the bearer token that `token` has at the time. */
  client(token: () => string | undefined): KubeClient;
  /** PEM certificates that are trusted; for those who connect in their own way. */
  trusted(): string[];
};

const OPEN_MS = 10_000;
const KEEP_ALIVE_MS = 15_000;

/** `learnt` is the CA (PEM) that the parent gave at registration: it is trusted beside the system's when the options name none. */
export function parentConnection(
  options: ParentOptions,
  learnt: () => string | undefined,
  environment: NodeJS.ProcessEnv = process.env,
): Parent {
  const url = new URL(options.url);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = Number(url.port || 443);

  function trusted(): string[] {
    // Read anew each time: a CA is replaced by writing the file.
    const given = options.caFile ? readFileSync(options.caFile, 'utf8') : '';
    // An empty file is what a kubeconfig without a CA leaves behind: the parent's certificate is then one that the system knows.
    if (given.trim() !== '') return [given];
    if (options.ca) return [options.ca];
    const own = learnt();
    trustSystemCAs();
    return [...getCACertificates('default'), ...(own ? [own] : [])];
  }
  const servername = options.serverName || (isIP(host) === 0 ? host : '');
  // Said outright, so that no variable of the environment turns verification off.
  const tls = (): ConnectionOptions => ({
    ca: trusted(),
    rejectUnauthorized: true,
    ALPNProtocols: ['http/1.1'],
    ...(servername && { servername }),
  });

  async function connection(signal: AbortSignal): Promise<Duplex | undefined> {
    const proxy = proxyFromEnvironment(url, environment);
    if (proxy === undefined) return undefined;
    const parsed = URL.canParse(proxy) ? new URL(proxy) : undefined;
    if (parsed?.protocol !== 'http:' && parsed?.protocol !== 'https:')
      throw new Error('the proxy of the environment must be an http or https URL');
    return await connectThroughHttp(parsed, host, port, signal);
  }

  async function open(signal: AbortSignal): Promise<TLSSocket> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)]);
    const through = await connection(limit);
    const raw = through ?? tcpConnect({ host, port });
    return await new Promise<TLSSocket>((resolve, reject) => {
      // The tunnel runs on such a connection: what it writes must not keep it from reading.
      const socket = tlsConnect({ ...tls(), host, port, socket: unblocked(raw) });
      const settle = () => {
        limit.removeEventListener('abort', giveUp);
        raw.off('error', fail);
        socket.off('error', fail);
      };
      const fail = (error: Error) => {
        settle();
        // The pair may still say what it has to say; nobody is to die of it.
        raw.on('error', () => undefined);
        socket.on('error', () => undefined);
        socket.destroy();
        raw.destroy();
        reject(new Error(`${url.host}: ${error.message}`, { cause: error }));
      };
      const giveUp = () => fail(signal.aborted ? new Error('given up') : new Error(`no TLS connection within ${OPEN_MS / 1_000} s`));
      raw.once('error', fail);
      socket.once('error', fail);
      socket.once('secureConnect', () => {
        settle();
        if ('setKeepAlive' in raw && typeof raw.setKeepAlive === 'function') raw.setKeepAlive(true, KEEP_ALIVE_MS);
        if ('setNoDelay' in raw && typeof raw.setNoDelay === 'function') raw.setNoDelay(true);
        resolve(socket);
      });
      if (limit.aborted) giveUp();
      else limit.addEventListener('abort', giveUp, { once: true });
    });
  }

  function client(token: () => string | undefined): KubeClient {
    let proxied: Agent | undefined;
    const throughProxy = () => {
      if (proxied) return proxied;
      proxied = new Agent({ keepAlive: true, keepAliveMsecs: 30_000 });
      proxied.createConnection = (_options, callback) => {
        open(new AbortController().signal).then(
          (socket) => callback?.(null, socket),
          // The type of the callback has no stream-less form; Node's own agent looks at the error first.
          (error: Error) => (callback as ((error: Error) => void) | undefined)?.(error),
        );
        return undefined;
      };
      return proxied;
    };
    return kubeClient(
      {
        getCurrentCluster: () => ({
          name: 'parent',
          server: options.url,
          skipTLSVerify: false,
          proxyUrl: proxyFromEnvironment(url, environment) ?? '',
        }),
        async applyToHTTPSOptions(given) {
          Object.assign(given, tls());
          const bearer = token();
          given.headers = { ...(bearer !== undefined && { Authorization: `Bearer ${bearer}` }) };
          if (proxyFromEnvironment(url, environment) !== undefined) given.agent = throughProxy();
        },
      },
      { userAgent: `fairlead-agent/${VERSION}` },
    );
  }

  return { url, open, client, trusted };
}
