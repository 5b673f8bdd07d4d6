import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { connectThroughSocks } from './socks.ts';

/**
 * A keep-alive agent whose connections go through a proxy: `http:` and `https:` proxies by CONNECT (also for a plain http server), `socks5:`.
 * `tls` is the material for a https server behind it. Throws an Error for another scheme.
 */
export function proxyAgent(proxyUrl: string, secure: boolean, tls: ConnectionOptions): HttpAgent | HttpsAgent {
  if (!URL.canParse(proxyUrl)) throw new Error(`proxy-url "${proxyUrl}" is not a URL`);
  const proxy = new URL(proxyUrl);
  if (!['http:', 'https:', 'socks5:', 'socks5h:'].includes(proxy.protocol)) {
    throw new Error(`proxy-url ${proxy.protocol}//${proxy.host}: only http, https and socks5 are supported`);
  }
  const pool = { keepAlive: true, keepAliveMsecs: 30_000 };
  const agent = secure ? new HttpsAgent({ ...pool, ...tls }) : new HttpAgent(pool);
  agent.createConnection = (options, callback) => {
    const target: ConnectionOptions = { ...tls, ...(options as ConnectionOptions) };
    const [host, port] = [target.host ?? 'localhost', Number(target.port ?? (secure ? 443 : 80))];
    const opening = proxy.protocol.startsWith('socks') ? connectThroughSocks(proxy, host, port) : connectThroughHttp(proxy, host, port);
    opening.then(
      (socket) => callback?.(null, secure ? tlsConnect({ ...target, socket }) : socket),
      // The type of the callback has no stream-less form; Node's own agent looks at the error first.
      (error: Error) => (callback as ((error: Error) => void) | undefined)?.(error),
    );
    return undefined;
  };
  return agent;
}

function connectThroughHttp(proxy: URL, host: string, port: number): Promise<Duplex> {
  const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return new Promise((resolve, reject) => {
    const request = (proxy.protocol === 'https:' ? httpsRequest : httpRequest)({
      host: proxy.hostname.replace(/^\[|\]$/g, ''),
      port: proxy.port || (proxy.protocol === 'https:' ? 443 : 80),
      method: 'CONNECT',
      path: authority,
      agent: false,
      timeout: 30_000,
      headers: { host: authority, ...(user !== ':' && { 'proxy-authorization': `Basic ${Buffer.from(user).toString('base64')}` }) },
    });
    const failed = (why: string) => new Error(`proxy ${proxy.host}: ${why}`);
    request.on('connect', (response, socket, head) => {
      if (response.statusCode !== 200) {
        socket.destroy();
        reject(failed(`it answered ${response.statusCode} ${response.statusMessage ?? ''}`.trim()));
        return;
      }
      socket.setTimeout(0);
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    request.on('response', (response) => {
      request.destroy();
      reject(failed(`it answered ${response.statusCode} ${response.statusMessage ?? ''}`.trim()));
    });
    request.on('timeout', () => request.destroy(new Error('no answer within 30 s')));
    request.on('error', (error) => reject(failed(error.message)));
    request.end();
  });
}
