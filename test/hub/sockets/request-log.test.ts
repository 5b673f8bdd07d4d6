import { request } from 'node:http';
import { Duplex, PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { auditSubject } from '../../../src/hub/audit/subject.ts';
import { requestLog } from '../../../src/hub/request-log.ts';
import { socketEntrances } from '../../../src/hub/socket-entrances.ts';
import type { SocketRoom } from '../../../src/hub/sockets/socket-room.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { bareApp } from '../http/bare-app.ts';

const clean = cleanUp();
const SOCKET = '/apis/proxies.clusternet.io/v1alpha1/sockets/c1/proxy/direct/pods';

function logAt(level: string) {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level, base: null }, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  return { log, lines };
}

test('at verbosity 0 and 1 a request costs nothing, because nothing is called', () => {
  expect(requestLog(logAt('info').log)).toBeUndefined();
});

test.each([
  ['debug', false],
  ['trace', true],
])('at level %s each request is one line at its end, without what may be secret', async (level, withProbes) => {
  const { log, lines } = logAt(level);
  const logRequest = requestLog(log);
  const { port } = await bareApp(clean, async () => ({ object: { kind: 'R' } }), {
    health(got, response) {
      if (got.url !== '/readyz?verbose') return false;
      response.end('ok');
      return true;
    },
    audit(got, _response, next) {
      auditSubject(got).user = { name: 'jane', uid: '', groups: [], extra: {} };
      next();
    },
    subject: auditSubject,
    logRequest,
  });
  const send = (method: string, path: string, body = '') =>
    new Promise<string>((resolve, reject) => {
      const sent = request({
        port,
        host: '127.0.0.1',
        method,
        path,
        agent: false,
        headers: { 'x-secret': 'CANARY', authorization: 'CANARY' },
      });
      sent.on('response', (response) => text(response).then(resolve, reject));
      sent.on('error', reject);
      sent.end(body);
    });
  await send('POST', '/apis/g/v1/r/one?token=CANARY', 'CANARY');
  await send('GET', '/readyz?verbose');
  await waitUntil(() => lines.length === (withProbes ? 2 : 1), 'the lines');
  const line = { method: 'POST', path: '/apis/g/v1/r/one', user: 'u', code: 200, msg: 'request', auditID: expect.any(String) };
  expect(lines[0]).toMatchObject({ ...line, ms: expect.any(Number) });
  if (withProbes) expect(lines[1]).toMatchObject({ path: '/readyz', code: 200 });
  expect(JSON.stringify(lines)).not.toMatch(/CANARY|secret|\?/);
});

test('requests and upgrades through sockets are logged too', async () => {
  const { log, lines } = logAt('debug');
  const sockets: SocketRoom = {
    serve: (_admit, _request, response) => void response.writeHead(404).end(),
    wantsUpgrade: () => true,
    upgrade(_admit, got, socket) {
      auditSubject(got).code = 101;
      socket.destroy();
    },
    drain: async () => undefined,
  };
  const entrances = socketEntrances({
    sockets,
    auditing: { middleware: (_request, _response, next) => next(), upgrade: () => undefined },
    authorizer: { authorize: async () => undefined },
    auditProblem: () => undefined,
    logRequest: requestLog(log),
  });
  const nobody = async () => ({ user: { name: 'u', uid: '', groups: [], extra: {} }, via: 'token' as const });
  const got = { method: 'GET', url: `${SOCKET}?watch=true`, headers: {} } as Parameters<ReturnType<typeof entrances.requests>>[0];
  const response = Object.assign(new PassThrough(), {
    headersSent: true,
    statusCode: 404,
    writeHead: () => response,
  }) as unknown as Parameters<ReturnType<typeof entrances.requests>>[1];
  entrances.requests(nobody, () => expect.unreachable())(got, response);
  response.destroy();
  const upgrading = { ...got, url: `${SOCKET}/x/exec?command=CANARY` } as typeof got;
  entrances.upgrades(nobody).take(upgrading, new Duplex({ read: () => undefined, write: (_c, _e, done) => done() }), Buffer.alloc(0));
  await waitUntil(() => lines.length === 2, 'two lines');
  expect(lines.map(({ path, code }) => [path, code]).sort()).toEqual([
    [SOCKET, 404],
    [`${SOCKET}/x/exec`, 101],
  ]);
});
