import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type AppOptions, hubApp } from '../../../src/hub/http/app.ts';
import { httpMetrics } from '../../../src/hub/http/metrics.ts';
import type { Handler } from '../../../src/hub/http/resource.ts';

/** The chain of the hub without TLS on loopback, with one handler: for `/apis/g/v1/r/NAME` and, as a stream, for `/apis/g/v1/r?watch=true`. */
export async function bareApp(
  cleaning: { after(undo: () => unknown): void; signal(): AbortSignal },
  handler: Handler,
  options: Partial<AppOptions> = {},
): Promise<{ port: number }> {
  const app = hubApp({
    routes: {
      known: () => true,
      methods: () => [],
      find: ({ verb }) => ({ handler, columns: [], longRunning: verb === 'watch', recorded: false, negotiates: false }),
    },
    health: () => false,
    documents: [],
    authenticate: async () => ({ user: { name: 'u', uid: '', groups: [], extra: {} }, via: 'token' }),
    authorizer: { authorize: async () => undefined, allowed: async () => true },
    metrics: httpMetrics(() => true),
    audit: (_request, _response, next) => next(),
    subject: () => ({ auditID: 'a' }),
    auditProblem: () => undefined,
    limits: { requests: 2, streams: 1, streamsPerUser: 1 },
    requestTimeoutMs: 60_000,
    closing: cleaning.signal(),
    log: () => undefined,
    ...options,
  });
  const server = createServer(app);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleaning.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port };
}
