import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Agent, createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import express from 'express';
import { expect, type TestContext, test } from 'vitest';
import type { AuditLog } from '../../../src/hub/audit/audit-log.ts';
import type { AuditEntry } from '../../../src/hub/audit/entry.ts';
import { auditRequests } from '../../../src/hub/audit/middleware.ts';
import { auditSubject } from '../../../src/hub/audit/subject.ts';
import { verifyChain } from '../../../src/hub/audit/verify.ts';
import { eventually } from '../auth/eventually.ts';
import { linesOf, logOf } from './entries.ts';
import { folder } from './folder.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** An express server on a loopback port whose requests go through the middleware to `handler`, until the test ends. */
async function serve(write: AuditLog['write'], handler: Handler, { onTestFinished }: TestContext): Promise<number> {
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

function collected() {
  const entries: AuditEntry[] = [];
  return { entries, write: (entry: AuditEntry) => void entries.push(entry) };
}

type Sent = { method?: string; path: string; headers?: Record<string, string>; agent?: Agent; body?: string };

function call(port: number, { method = 'GET', path, headers = {}, agent, body }: Sent): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ host: '127.0.0.1', port, method, path, headers, ...(agent && { agent }) }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0));
      response.on('error', reject);
    });
    sent.on('error', reject).end(body);
  });
}

test('R66: 10,000 calls over kept-alive connections: one line each with its Audit-ID and code, and the chain verifies', {
  timeout: 60_000,
}, async (context) => {
  const CALLS = 10_000;
  const WORKERS = 16;
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  const codes = [200, 201, 404, 409, 503];
  const port = await serve(
    log.write,
    (request, response) => {
      auditSubject(request).user = { name: 'ann', uid: '1', groups: ['operators'], extra: {} };
      response.writeHead(Number(request.headers['x-code'])).end('{}');
    },
    context,
  );
  const agent = new Agent({ keepAlive: true, maxSockets: WORKERS });
  context.onTestFinished(() => agent.destroy());
  const expected = new Map<string, number>();
  let left = CALLS;
  const worker = async () => {
    while (left-- > 0) {
      const id = randomUUID();
      const code = codes[left % codes.length] ?? 200;
      expected.set(id, code);
      const answered = await call(port, {
        method: left % 2 === 0 ? 'POST' : 'GET',
        path: `/apis/infraops.michael.io/v1/nodes/n${left}/restart`,
        headers: { 'audit-id': id, 'x-code': String(code) },
        agent,
      });
      expect(answered).toBe(code);
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));
  await log.close();
  const events = (await linesOf(path)).filter((line) => line.kind === 'Event');
  expect(events).toHaveLength(CALLS);
  expect(new Map(events.map((event) => [event.auditID, event.responseStatus?.code]))).toEqual(expected);
  expect(await verifyChain(path)).toMatchObject({ ok: true, lines: CALLS + 1 });
});

test('the shape of a line is that of an Event of audit.k8s.io/v1', async (context) => {
  const { entries, write } = collected();
  const port = await serve(
    write,
    (request, response) => {
      const subject = auditSubject(request);
      subject.user = { name: 'ann', uid: '7', groups: ['operators'], extra: { token: ['not shown'] } };
      subject.info = {
        kind: 'resource',
        path: '/',
        verb: 'create',
        group: 'infraops.michael.io',
        version: 'v1',
        resource: 'nodes',
        name: 'n1',
        subresource: 'restart',
        rest: '',
      };
      subject.annotations = { 'infraops.michael.io/operation': 'n1-x' };
      subject.viaFrontProxy = true;
      response.writeHead(201).end();
    },
    context,
  );
  await call(port, {
    method: 'POST',
    path: '/apis/infraops.michael.io/v1/nodes/n1/restart?dryRun=All',
    headers: { 'audit-id': 'kube-1', 'user-agent': 'kubectl/v1.36.3', 'x-forwarded-for': '203.0.113.9, 192.0.2.7' },
  });
  expect(entries).toEqual([
    {
      kind: 'Event',
      apiVersion: 'audit.k8s.io/v1',
      level: 'Metadata',
      auditID: 'kube-1',
      stage: 'ResponseComplete',
      requestURI: '/apis/infraops.michael.io/v1/nodes/n1/restart?dryRun=All',
      verb: 'create',
      user: { username: 'ann', uid: '7', groups: ['operators'] },
      sourceIPs: ['192.0.2.7', '127.0.0.1'],
      userAgent: 'kubectl/v1.36.3',
      objectRef: { resource: 'nodes', subresource: 'restart', name: 'n1', apiGroup: 'infraops.michael.io', apiVersion: 'v1' },
      responseStatus: { code: 201 },
      requestReceivedTimestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/) as string,
      stageTimestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/) as string,
      annotations: { 'infraops.michael.io/operation': 'n1-x' },
    },
  ]);
});

test('failed, cut off, streamed, taken over and upgraded requests have one line each', async (context) => {
  const { entries, write } = collected();
  const reached: string[] = [];
  const port = await serve(
    write,
    (request, response) => {
      reached.push(request.url ?? '');
      if (request.url === '/throws') throw new Error('on purpose');
      if (request.url === '/stream') {
        response.writeHead(200);
        response.write('first\n');
      }
      if (request.url === '/taken') {
        const { socket } = request;
        response.detachSocket(socket);
        auditSubject(request).code = 101;
        socket.end('HTTP/1.1 101 Switching Protocols\r\n\r\n');
      }
    },
    context,
  );
  const raw = (text: string) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined).resume();
    socket.end(text);
    context.onTestFinished(() => void socket.destroy());
    return socket;
  };
  const cut = async (path: string) => {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
    if (path === '/stream') await once(socket, 'data');
    await eventually(`${path} in its handler`, () => reached.includes(path));
    // A stream has its line at its end, not before.
    expect(entries.filter((entry) => entry.requestURI === path)).toEqual([]);
    socket.destroy();
  };
  expect(await call(port, { path: '/throws' })).toBe(500);
  await cut('/silent');
  await cut('/stream');
  raw('GET /taken HTTP/1.1\r\nHost: x\r\n\r\n');
  raw('GET /upgraded HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n');
  raw('GET /cut HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n');
  await eventually('six lines', () => entries.length >= 6);
  // Whatever would be written twice is written by the time a later request on the same server has its line.
  await call(port, { path: '/throws' });
  const told = entries.map(({ requestURI, responseStatus, annotations }) => [
    requestURI,
    responseStatus.code,
    annotations?.['infraops.michael.io/cut-off'],
  ]);
  expect(told.slice(0, 6).sort()).toEqual(
    [
      ['/throws', 500, undefined],
      ['/silent', 0, 'before-answer'],
      ['/stream', 200, 'during-answer'],
      ['/taken', 101, undefined],
      ['/upgraded', 101, undefined],
      ['/cut', 0, 'before-answer'],
    ].sort(),
  );
  expect(told.slice(6)).toEqual([['/throws', 500, undefined]]);
});

test('many requests in one packet: a line each, and no warning of too many listeners', async (context) => {
  const { entries, write } = collected();
  const warnings: Error[] = [];
  const warned = (warning: Error) => void warnings.push(warning);
  process.on('warning', warned);
  context.onTestFinished(() => void process.off('warning', warned));
  let reached = 0;
  const port = await serve(write, () => void reached++, context);
  const socket = connect(port, '127.0.0.1').on('error', () => undefined);
  socket.write('GET /p HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(30));
  context.onTestFinished(() => void socket.destroy());
  await eventually('all in the server', () => reached === 30);
  socket.destroy();
  await eventually('30 lines', () => entries.filter((entry) => entry.requestURI === '/p').length === 30);
  expect(warnings.map((warning) => warning.name)).not.toContain('MaxListenersExceededWarning');
});

test('health checks and good answers to discovery are left out, refused ones are not', async (context) => {
  const { entries, write } = collected();
  let code = 200;
  const port = await serve(write, (_request, response) => void response.writeHead(code).end(), context);
  const routine = [
    '/livez',
    '/readyz?verbose',
    '/healthz/ping',
    '/apis',
    '/apis/infraops.michael.io/v1',
    '/openapi/v3/apis/x',
    '/openapi/v2',
    '/version',
  ];
  for (const path of routine) await call(port, { path });
  expect(entries).toEqual([]);
  code = 403;
  for (const path of ['/apis', '/livez']) await call(port, { path });
  code = 200;
  for (const path of ['/apis/infraops.michael.io/v1/nodes', '/livezz', '/metrics']) await call(port, { path });
  await call(port, { path: '/livez', method: 'POST' });
  expect(entries.map((entry) => `${entry.verb} ${entry.requestURI}`)).toEqual([
    'get /apis',
    'get /apis/infraops.michael.io/v1/nodes',
    'get /livezz',
    'get /metrics',
    'post /livez',
  ]);
});

test('R28: a forged X-Forwarded-For changes nothing without the front proxy, and only its last address counts with it', async (context) => {
  const { entries, write } = collected();
  let viaFrontProxy = false;
  const port = await serve(
    write,
    (request, response) => {
      auditSubject(request).viaFrontProxy = viaFrontProxy;
      response.end();
    },
    context,
  );
  const ask = async (value: string) => {
    await call(port, { path: '/x', headers: { 'x-forwarded-for': value, 'x-real-ip': '203.0.113.5', forwarded: 'for=203.0.113.6' } });
    return entries.at(-1)?.sourceIPs;
  };
  expect(await ask('203.0.113.9')).toEqual(['127.0.0.1']);
  viaFrontProxy = true;
  expect(await ask('203.0.113.9, 2001:db8::1')).toEqual(['2001:db8::1', '127.0.0.1']);
  expect(await ask('203.0.113.9, not an address')).toEqual(['127.0.0.1']);
});

test('R19: of 12 planted canaries none is in the log; a line is bounded', async (context) => {
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  const canaries: string[] = [];
  const canary = () => {
    const text = `canary-${randomUUID()}`;
    canaries.push(text);
    return text;
  };
  const port = await serve(
    log.write,
    (request, response) => {
      auditSubject(request).user = { name: 'ann', uid: '', groups: [], extra: { token: [canary()], 'client-key': [canary()] } };
      request.resume().on('end', () => response.writeHead(500, { 'x-answer': canary() }).end(canary()));
    },
    context,
  );
  const long = 'y'.repeat(12_000);
  await call(port, {
    method: 'POST',
    path: `/x?reason=${long}`,
    headers: {
      authorization: `Bearer ${canary()}`,
      'proxy-authorization': `Basic ${canary()}`,
      cookie: canary(),
      'sec-websocket-protocol': `base64url.bearer.authorization.k8s.io.${canary()}`,
      'x-remote-extra-token': canary(),
      'impersonate-extra-key': canary(),
      // Not an Audit-ID as kube-apiserver has them.
      'audit-id': `${canary()}\t${canary()}`,
    },
    body: canary(),
  });
  await call(port, { path: `http://ann:${canary()}@127.0.0.1/y`, headers: { 'user-agent': 'z'.repeat(3_000) } });
  await log.close();
  const text = await readFile(path, 'utf8');
  expect(canaries.length).toBeGreaterThanOrEqual(12);
  expect(canaries.filter((one) => text.includes(one))).toEqual([]);
  const events = (await linesOf(path)).filter((line) => line.kind === 'Event');
  expect(events).toHaveLength(2);
  expect(events[0]?.requestURI?.length).toBeLessThan(8_300);
  expect(events[0]?.requestURI).toMatch(/^\/x\?reason=yyy/);
  expect(events[1]?.requestURI).toBe('http://127.0.0.1/y');
  expect(events[1]?.userAgent?.length).toBeLessThan(1_100);
});
