import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';

/**
 * A connection to `host:port` through an `http:` or `https:` proxy, by CONNECT; user and password of the proxy's URL sign in. Rejects with an Error that names
 * the proxy and never its password, after 30 s without an answer too.
 */
export function connectThroughHttp(proxy: URL, host: string, port: number, signal?: AbortSignal): Promise<Duplex> {
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
      ...(signal && { signal }),
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
