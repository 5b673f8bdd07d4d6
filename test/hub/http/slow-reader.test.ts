import type { IncomingMessage } from 'node:http';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { hubApp } from '../../../src/hub/http/app.ts';
import { httpMetrics } from '../../../src/hub/http/metrics.ts';
import type { Routes } from '../../../src/hub/http/routes.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { eventually } from '../auth/eventually.ts';

const cleaning = cleanUp();

test('regression: clients that did not read their answers kept their places for ever, and the hub answered nobody else', async () => {
  const big = JSON.stringify({ text: 'x'.repeat(24 << 20) });
  const table: Routes = {
    known: () => true,
    find: ({ name }) => ({
      handler: async () => ({ json: name === 'big' ? big : '{}' }),
      columns: [],
      longRunning: false,
      recorded: false,
      negotiates: false,
    }),
  };
  const app = hubApp({
    routes: table,
    health: () => false,
    documents: [],
    authenticate: async () => ({ user: { name: 'u', uid: '', groups: [], extra: {} }, via: 'token' }),
    authorizer: { authorize: async () => undefined, allowed: async () => true },
    metrics: httpMetrics(() => true),
    audit: (_request, _response, next) => next(),
    subject: () => ({ auditID: 'a' }),
    auditProblem: () => undefined,
    limits: { requests: 2, streams: 1, streamsPerUser: 1 },
    requestTimeoutMs: 400,
    closing: cleaning.signal(),
    log: () => undefined,
  });
  const server = createServer(app);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleaning.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const ask = (name: string) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const { port } = server.address() as AddressInfo;
      request({ host: '127.0.0.1', port, path: `/apis/g/v1/r/${name}`, agent: false }, resolve)
        .on('error', reject)
        .end();
    });
  for (let at = 0; at < 2; at++) {
    const answer = await ask('big');
    // Headers are read, the body never.
    answer.on('error', () => undefined);
    cleaning.after(() => answer.destroy());
  }
  const code = async () => (await ask('small')).resume().statusCode;
  expect(await code()).toBe(429);
  await eventually('room again', async () => (await code()) === 200, 5_000);
});
