import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { auditSubject } from '../../../src/hub/audit/subject.ts';
import { verifyChain } from '../../../src/hub/audit/verify.ts';
import { eventually } from '../auth/eventually.ts';
import { call, collected, serve } from './audited-server.ts';
import { linesOf, logOf } from './entries.ts';
import { folder } from './folder.ts';

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
