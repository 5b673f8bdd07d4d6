import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from 'node:https';
import type { V1Status } from '@kubernetes/client-node';
import { KubeError, KubeUnreachableError } from './errors.ts';
import type { KubeAccess } from './plain-config.ts';

/** One request. `path` is sent as it stands; `query` is encoded behind it. */
export type KubeRequest = {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  query?: Record<string, string | number | boolean | undefined> | URLSearchParams;
  body?: unknown;
  /** Default application/json. */
  contentType?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** For the whole answer, or for a stream until its headers. Default 15,000. */
  timeoutMs?: number;
};

/** Acts as somebody else, by the Impersonate-* headers. */
export type Impersonation = { user: string; uid?: string; groups?: string[]; extra?: Record<string, string[]> };

/** A connection to one Kubernetes API server with the credentials of one kubeconfig user. */
export type KubeClient = {
  /** The parsed JSON answer. Throws KubeError for every code from 300 on, KubeUnreachableError when no answer came. */
  request<T>(request: KubeRequest): Promise<T>;
  /** The answer as it arrives. Throws like `request`; the caller must read or destroy the stream. */
  stream(request: KubeRequest): Promise<IncomingMessage>;
  /** Closes idle connections. */
  close(): void;
  readonly server: string;
};

/** How long credentials taken from the kubeconfig (files, exec plugins) are used before they are asked for again. */
const CREDENTIAL_MS = 5_000;

type Connection = {
  base: URL;
  agent: HttpAgent | HttpsAgent;
  headers: Record<string, string | string[]>;
  auth: string | undefined;
  at: number;
  key: string;
};

/**
 * A client from a loaded kubeconfig. The kubeconfig library brings certificates, tokens, exec plugins and proxies; requests go over our own
 * keep-alive agent, because the library's generated API classes copy every object field by field (seconds for 5,000 nodes).
 */
export function kubeClient(
  config: Pick<KubeAccess, 'getCurrentCluster' | 'applyToHTTPSOptions'>,
  options: { impersonate?: Impersonation; userAgent?: string } = {},
): KubeClient {
  const cluster = config.getCurrentCluster();
  if (!cluster) throw new Error('the kubeconfig has no current cluster: set current-context');
  const server = cluster.server.replace(/\/+$/, '');
  let connection: Connection | undefined;
  let connecting: Promise<Connection> | undefined;

  async function connect(): Promise<Connection> {
    const base = new URL(server);
    const tls: RequestOptions = {};
    await config.applyToHTTPSOptions(tls);
    const { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized, headers, auth } = tls;
    const identity = [ca, cert, key, pfx, servername, rejectUnauthorized].map((part) => String(part ?? '')).join('\n');
    let agent = connection?.agent;
    if (!agent || connection?.key !== identity) {
      // Requests in flight keep the old agent; its idle sockets end by themselves.
      const proxied = cluster?.proxyUrl && tls.agent instanceof HttpAgent ? tls.agent : undefined;
      const pool = { keepAlive: true, keepAliveMsecs: 30_000, maxFreeSockets: 64, scheduling: 'lifo' as const };
      const material = { ca, cert, key, pfx, passphrase, servername, ...(rejectUnauthorized !== undefined && { rejectUnauthorized }) };
      agent = proxied ?? (base.protocol === 'http:' ? new HttpAgent(pool) : new HttpsAgent({ ...pool, ...definedOnly(material) }));
    }
    connection = { base, agent, headers: plainHeaders(headers), auth: auth ?? undefined, at: performance.now(), key: identity };
    return connection;
  }

  async function current(): Promise<Connection> {
    if (connection && performance.now() - connection.at < CREDENTIAL_MS) return connection;
    connecting ??= connect().finally(() => {
      connecting = undefined;
    });
    return connecting;
  }

  async function send(request: KubeRequest): Promise<IncomingMessage> {
    const { base, agent, headers, auth } = await current().catch((error: unknown) => {
      // A token file that is being replaced, an exec plugin that fails: nothing was sent, and it can pass.
      const why = error instanceof Error ? error.message : String(error);
      throw new KubeUnreachableError(`${request.method ?? 'GET'} ${server}${request.path}: no credentials: ${why}`, false, error);
    });
    const body = request.body === undefined ? undefined : typeof request.body === 'string' ? request.body : JSON.stringify(request.body);
    const path = base.pathname.replace(/\/$/, '') + request.path + encodeQuery(request.query);
    const outgoing: Record<string, string | string[]> = {
      accept: 'application/json',
      'user-agent': options.userAgent ?? 'fairlead',
      ...headers,
      ...impersonationHeaders(options.impersonate),
      ...request.headers,
    };
    if (body !== undefined) {
      outgoing['content-type'] = request.contentType ?? 'application/json';
      outgoing['content-length'] = String(Buffer.byteLength(body));
    }
    const call = base.protocol === 'http:' ? httpRequest : httpsRequest;
    const method = request.method ?? 'GET';
    return await new Promise<IncomingMessage>((resolve, reject) => {
      request.signal?.throwIfAborted();
      const sent: ClientRequest = call({
        host: base.hostname.replace(/^\[|\]$/g, ''),
        port: base.port || (base.protocol === 'http:' ? 80 : 443),
        method,
        path,
        agent,
        headers: outgoing,
        ...(auth && { auth }),
        ...(request.signal && { signal: request.signal }),
      });
      const timer = setTimeout(
        () => sent.destroy(new Error(`no answer within ${request.timeoutMs ?? 15_000} ms`)),
        request.timeoutMs ?? 15_000,
      );
      // What is written before the connection stands counts as written too, so only the connection tells.
      let reached = false;
      sent.on('socket', (socket) => {
        if (!socket.connecting) reached = true;
        else
          socket.once(base.protocol === 'http:' ? 'connect' : 'secureConnect', () => {
            reached = true;
          });
      });
      sent.on('response', (response) => {
        clearTimeout(timer);
        resolve(response);
      });
      sent.on('error', (error) => {
        clearTimeout(timer);
        if (request.signal?.aborted) return reject(request.signal.reason);
        reject(new KubeUnreachableError(`${method} ${server}${request.path}: ${error.message}`, reached, error));
      });
      sent.end(body);
    });
  }

  async function stream(request: KubeRequest): Promise<IncomingMessage> {
    const response = await send(request);
    const code = response.statusCode ?? 0;
    if (code >= 200 && code < 300) return response;
    throw new KubeError(code, asStatus(code, await text(response, request)));
  }

  return {
    server,
    stream,
    async request<T>(request: KubeRequest): Promise<T> {
      const response = await stream(request);
      const body = await text(response, request);
      try {
        return (body === '' ? undefined : JSON.parse(body)) as T;
      } catch (error) {
        throw new KubeUnreachableError(`${request.method ?? 'GET'} ${server}${request.path}: the answer is not JSON`, true, error);
      }
    },
    close() {
      connection?.agent.destroy();
    },
  };
}

function encodeQuery(query: KubeRequest['query']): string {
  if (!query) return '';
  const params = query instanceof URLSearchParams ? query : new URLSearchParams();
  if (!(query instanceof URLSearchParams)) {
    for (const [name, value] of Object.entries(query)) if (value !== undefined) params.append(name, String(value));
  }
  const encoded = params.toString();
  return encoded ? `?${encoded}` : '';
}

async function text(response: IncomingMessage, request: KubeRequest): Promise<string> {
  const chunks: Buffer[] = [];
  const timer = setTimeout(() => response.destroy(new Error('the answer stopped midway')), request.timeoutMs ?? 15_000);
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch (error) {
    request.signal?.throwIfAborted();
    throw new KubeUnreachableError(`${request.path}: ${error instanceof Error ? error.message : String(error)}`, true, error);
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function asStatus(code: number, body: string): V1Status {
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === 'object' && parsed !== null && 'kind' in parsed && parsed.kind === 'Status') return parsed as V1Status;
  } catch {
    // Not JSON: a proxy on the way answered. Its text is kept short below.
  }
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message: body.slice(0, 512).trim() || `the server answered ${code}` };
}

function plainHeaders(headers: RequestOptions['headers']): Record<string, string | string[]> {
  const plain: Record<string, string | string[]> = {};
  if (!headers || Array.isArray(headers)) return plain;
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) plain[name.toLowerCase()] = typeof value === 'number' ? String(value) : (value as string | string[]);
  }
  return plain;
}

function impersonationHeaders(who: Impersonation | undefined): Record<string, string | string[]> {
  if (!who) return {};
  const headers: Record<string, string | string[]> = { 'impersonate-user': who.user };
  if (who.uid) headers['impersonate-uid'] = who.uid;
  if (who.groups?.length) headers['impersonate-group'] = who.groups;
  for (const [key, values] of Object.entries(who.extra ?? {}))
    headers[`impersonate-extra-${encodeURIComponent(key).toLowerCase()}`] = values;
  return headers;
}

function definedOnly<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}
