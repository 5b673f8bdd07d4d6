import { createServer, type IncomingHttpHeaders, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { StatusError } from '../../../src/kube/status.ts';

export type Answer = { code: number; headers: IncomingHttpHeaders; body: string };
export type Serving = {
  port: number;
  get(path: string, headers?: Record<string, string>, method?: string): Promise<Answer>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Serves a handler on a loopback port of its own. What it passes to `next` is answered: a StatusError as it is, nothing as 404. */
export async function serve(
  handler: (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void,
): Promise<Serving> {
  const server: Server = createServer((incoming, response) =>
    handler(incoming, response, (error) => {
      const status = error instanceof StatusError ? error.status : { code: error === undefined ? 404 : 500, message: String(error) };
      response.writeHead(status.code, { 'Content-Type': 'application/json' }).end(JSON.stringify(status));
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    get: (path, headers = {}, method = 'GET') =>
      new Promise<Answer>((resolve, reject) => {
        const sent = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () =>
            resolve({ code: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() }),
          );
          response.on('error', reject);
        });
        sent.on('error', reject).end();
      }),
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
