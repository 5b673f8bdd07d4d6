import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { connectThroughHttp } from '../../src/kube/proxy-connect.ts';
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
