import { once } from 'node:events';
import { type Agent, createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import type { TestContext } from 'vitest';
import type { AuditLog } from '../../../src/hub/audit/audit-log.ts';
import type { AuditEntry } from '../../../src/hub/audit/entry.ts';
import { auditRequests } from '../../../src/hub/audit/middleware.ts';
import { auditSubject } from '../../../src/hub/audit/subject.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** An express server on a loopback port whose requests go through the middleware to `handler`, until the test ends. */
export async function serve(write: AuditLog['write'], handler: Handler, { onTestFinished }: TestContext): Promise<number> {
  const { middleware, upgrade } = auditRequests({ write });
  const app = express();
  app.use(middleware);
  app.use((request: IncomingMessage, response: ServerResponse) => handler(request, response));
  app.use((_error: unknown, _request: IncomingMessage, response: ServerResponse, _next: express.NextFunction) => {
    response.writeHead(500).end();
  });
  const server = createServer(app);
  server.on('upgrade', (request, socket) => {
    upgrade(request, socket);
    if (request.url === '/cut') {
      socket.destroy();
      return;
    }
    auditSubject(request).code = 101;
    socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** A `write` that keeps the entries. */
export function collected() {
  const entries: AuditEntry[] = [];
  return { entries, write: (entry: AuditEntry) => void entries.push(entry) };
}

type Sent = { method?: string; path: string; headers?: Record<string, string>; agent?: Agent; body?: string };

/** One request with a body read to its end; resolves with the code. */
export function call(port: number, { method = 'GET', path, headers = {}, agent, body }: Sent): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ host: '127.0.0.1', port, method, path, headers, ...(agent && { agent }) }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0));
      response.on('error', reject);
    });
    sent.on('error', reject).end(body);
  });
}
