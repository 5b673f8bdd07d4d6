import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** An HTTP server on 127.0.0.1 for targets other than the API server: answers with what it got, as JSON. */
export type LocalTarget = { port: number; requests: number; close(): Promise<void> };

export async function startLocalTarget(): Promise<LocalTarget> {
  const target = { port: 0, requests: 0 };
  const server = createServer((request, response) => {
    target.requests++;
    const body: Buffer[] = [];
    request.on('data', (chunk: Buffer) => body.push(chunk));
    request.on('end', () => {
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({
          method: request.method,
          url: request.url,
          headers: request.rawHeaders,
          body: Buffer.concat(body).toString('latin1'),
        }),
      );
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  target.port = (server.address() as AddressInfo).port;
  return Object.assign(target, {
    close: async () => {
      if (!server.listening) return;
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  });
}
