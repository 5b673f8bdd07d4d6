import { readdirSync, readFileSync } from 'node:fs';
import { createServer as createHTTP } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { connect as connectTLS } from 'node:tls';
import { expect, test } from 'vitest';
import { listen as listenHub } from '../../src/hub/http/listener.ts';
import { parseTargetPattern } from '../../src/tunnel/target.ts';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { socketPair } from '../support/socket-pair.ts';
import { agentEnd, ask, countConnections, failure, headOf, listen, rawStream } from './agent-end.ts';
import { ANSWERS, VECTORS } from './smuggling-vectors.ts';

const clean = cleanUp();
const ca = makeCa('hub-ca');

/** The hub's own listener in front of the sockets of a pair, and what the child got. */
async function hub() {
  const seen: Array<{ url: string; body: string }> = [];
  const pair = await socketPair({
    child(got, response) {
      let body = '';
      got.setEncoding('latin1').on('data', (chunk: string) => {
        body += chunk;
      });
      got.on('error', () => undefined);
      got.on('end', () => {
        seen.push({ url: got.url ?? '', body });
        response.end(`answer to ${got.url}`);
      });
    },
  });
  clean.after(() => pair.close());
  const admit = async () => ({ user: { name: 'jane', uid: '', groups: [], extra: {} }, via: 'token' as const });
  const listener = await listenHub((request, response) => pair.room.serve(admit, request, response), {
    address: '127.0.0.1',
    port: 0,
    certificate: { current: () => makeServer(ca), onChange: () => undefined } as unknown as Parameters<typeof listenHub>[1]['certificate'],
    requestHeaderCA: () => undefined,
    onRequestHeaderCA: () => undefined,
    isTrusted: () => false,
    signal: clean.signal(),
    onError: () => undefined,
    isUnlimited: () => true,
    upgrades: { wants: pair.room.wantsUpgrade, take: (request, socket, head) => pair.room.upgrade(admit, request, socket, head) },
    limits: { keepAliveTimeout: 300, headersTimeout: 2_000, connectionsCheckingInterval: 100 },
  });
  clean.after(() => listener.close(0));
  return { pair, seen, port: listener.port };
}

/** Sends bytes as they are; resolves with all that came when the server has closed the connection, which it does when nothing more comes. */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connectTLS({ host: '127.0.0.1', port, ca: ca.cert }, () => socket.write(Buffer.from(bytes, 'latin1')));
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`still open, with ${JSON.stringify(text.slice(0, 200))}`));
    }, 15_000);
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      text += chunk;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(text);
    });
  });
}

test(`R25: ${VECTORS.length} requests that could be two at the hub: 400 and the connection ends, or they are one`, async () => {
  const { pair, seen, port } = await hub();
  const second = `GET ${pair.direct('/second')} HTTP/1.1\r\nHost: hub\r\n\r\n`;
  const check = async ({ name, line, rest, whole }: (typeof VECTORS)[number], at: number) => {
    const path = `/first/${at}`;
    const start = line ? line(pair.direct(path)) : `POST ${pair.direct(path)} HTTP/1.1\r\n`;
    const text = await raw(port, start + rest(second));
    const codes = [...text.matchAll(/^HTTP\/1\.1 ([0-9]{3})/gm)].map((match) => match[1]);
    const arrived = seen.filter(({ url }) => url === path).map(({ body }) => body);
    if (whole) expect({ name, codes, arrived }).toEqual({ name, codes: ['200'], arrived: [second] });
    else expect({ name, codes, arrived }).toEqual({ name, codes: ['400'], arrived: [] });
  };
  for (let at = 0; at < VECTORS.length; at += 8)
    await Promise.all(VECTORS.slice(at, at + 8).map((vector, which) => check(vector, at + which)));
  expect(seen.filter(({ url }) => url.includes('second'))).toEqual([]);
  // The second request is a good one: sent as a request it is carried out.
  expect(await raw(port, second)).toContain('answer to /second');
});

test('R25: an upgrade with a body is no way around: what follows reaches nobody before the target has switched', async () => {
  const { pair, seen, port } = await hub();
  const second = `GET ${pair.direct('/second')} HTTP/1.1\r\nHost: hub\r\n\r\n`;
  for (const framing of [`Content-Length: ${second.length}`, 'Content-Length: 0', 'Transfer-Encoding: chunked', 'X: y'])
    for (const method of ['GET', 'POST']) {
      const text = await raw(
        port,
        `${method} ${pair.direct('/first')} HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${framing}\r\n\r\n${second}`,
      );
      expect(text.match(/^HTTP\/1\.1 /gm)).toHaveLength(1);
    }
  expect(seen.filter(({ url }) => url !== '/first')).toEqual([]);
});

test.each(ANSWERS)('R25: an answer with %s: its caller gets it or 502, the next caller its own', async (_name, make) => {
  const second = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison';
  const server = createServer((socket: Socket) => {
    socket.on('data', (chunk: Buffer) => {
      const path = chunk.toString('latin1').split(' ')[1] ?? '';
      if (path.startsWith('/first')) socket.write(make(second), 'latin1');
      else socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`);
    });
  });
  countConnections(clean, server);
  const port = await listen(server);
  const { upstream, errors } = await agentEnd(clean, { allowTargets: [parseTargetPattern('127.0.0.1')] });
  const authority = `127.0.0.1:${port}`;
  for (let at = 0; at < 5; at++) {
    const first = await ask(upstream, headOf(authority, { path: '/first' })).catch((error: { code: number }) => ({
      code: error.code,
      body: '',
    }));
    expect(first.body).not.toContain('poison');
    expect([200, 204, 502, 503]).toContain(first.code);
    expect((await ask(upstream, headOf(authority, { path: `/next/${at}` }))).body).toBe(`/next/${at}`);
  }
  expect(errors).toEqual([]);
});

/** Heads in the tunnel that would be two requests when they were written down as they are. */
const END = ' HTTP/1.1\r\nHost: x\r\n\r\nGET /second HTTP/1.1\r\nX: ';
const HEADS: readonly (readonly [string, readonly string[]])[] = [
  ['a path with an end of line', [':method', 'GET', ':path', `/first${END}`]],
  ['a path with a space', [':method', 'GET', ':path', '/first HTTP/1.1']],
  ['a path with a NUL', [':method', 'GET', ':path', '/first\0']],
  ['a method with an end of line', [':method', `GET /first${END}`, ':path', '/']],
  ['a method with a space', [':method', 'GET /second', ':path', '/first']],
  ['a value with an end of line', [':method', 'GET', ':path', '/first', 'x-a', 'a\r\n\r\nGET /second HTTP/1.1\r\n\r\n']],
  ['a value with a line feed', [':method', 'GET', ':path', '/first', 'x-a', 'a\n\nGET /second HTTP/1.1\n\n']],
  ['a value with a carriage return', [':method', 'GET', ':path', '/first', 'x-a', 'a\rb']],
  ['a value with a NUL', [':method', 'GET', ':path', '/first', 'x-a', 'a\0b']],
  ['a name with a colon', [':method', 'GET', ':path', '/first', 'x-a: b\r\nx', 'a']],
  ['a name with a space', [':method', 'GET', ':path', '/first', 'x a', 'a']],
  ['chunks', [':method', 'POST', ':path', '/first', 'transfer-encoding', 'chunked']],
  ['a length without a body', [':method', 'POST', ':path', '/first', 'content-length', '5']],
  ['two lengths', [':method', 'POST', ':path', '/first', 'content-length', '0', 'content-length', '5']],
  ['a length that is none', [':method', 'POST', ':path', '/first', 'content-length', '5x']],
  ['a connection header', [':method', 'GET', ':path', '/first', 'connection', 'host']],
  ['an upgrade header', [':method', 'GET', ':path', '/first', 'upgrade', 'websocket']],
  ['an expectation', [':method', 'GET', ':path', '/first', 'expect', '100-continue']],
  ['a second host', [':method', 'GET', ':path', '/first', 'host', 'other']],
  ['an upgrade whose method is more', [':method', 'CONNECT', ':protocol', 'x', ':path', '/first', 'fairlead-method', 'GET /second']],
  ['an upgrade whose protocol is more', [':method', 'CONNECT', ':protocol', 'x\r\ny: z', ':path', '/first']],
  ['an upgrade whose path is more', [':method', 'CONNECT', ':protocol', 'x', ':path', '/first HTTP/1.1']],
  ['an upgrade with a length', [':method', 'CONNECT', ':protocol', 'x', ':path', '/first', 'content-length', '5']],
  ['the method CONNECT', [':method', 'CONNECT', ':path', '/first']],
];

test.each(HEADS)('R25: past the hub, a head with %s is one request or none', async (_name, head) => {
  const lines: string[] = [];
  const server = createHTTP((got, response) => {
    lines.push(`${got.method} ${got.url} ${got.headers.host}`);
    response.end('ok');
  });
  server.on('upgrade', (got, socket) => {
    lines.push(`${got.method} ${got.url} ${got.headers.host}`);
    socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  });
  countConnections(clean, server);
  const bytes: string[] = [];
  server.on('connection', (socket: Socket) => socket.on('data', (chunk: Buffer) => bytes.push(chunk.toString('latin1'))));
  const port = await listen(server);
  const { tunnel, upstream, errors } = await agentEnd(clean, { allowTargets: [parseTargetPattern('127.0.0.1')] });
  const authority = `127.0.0.1:${port}`;
  const answer = await rawStream(tunnel, [
    ...head.slice(0, head[2] === ':protocol' ? 4 : 2),
    ':scheme',
    'http',
    ':authority',
    authority,
    ...head.slice(head[2] === ':protocol' ? 4 : 2),
    'fairlead-user',
    'jane',
  ])
    .then(({ code }) => code)
    .catch(() => 0);
  expect(lines.length).toBeLessThan(2);
  expect(lines.filter((line) => !/^(GET|POST) \/first 127\.0\.0\.1:[0-9]+$/.test(line))).toEqual([]);
  expect(bytes.join('').match(/^[A-Z]+ \S+ HTTP\/1\.1/gm) ?? []).toHaveLength(lines.length);
  if (lines.length === 0) expect([0, 400, 403, 502]).toContain(answer);
  // The tunnel and the connection behind it are as they were.
  expect((await ask(upstream, headOf(authority, { path: '/next' }))).body).toBe('ok');
  expect(await failure(ask(upstream, headOf('direct')))).toMatchObject({ code: 503 });
  expect(errors).toEqual([]);
});

test('R25: a length and announced trailers reach the target as chunks without the length', async () => {
  let bytes = '';
  const server = createServer((socket: Socket) => {
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      bytes += chunk;
      if (bytes.includes('0\r\n')) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok');
    });
  });
  countConnections(clean, server);
  const port = await listen(server);
  const { upstream, errors } = await agentEnd(clean, { allowTargets: [parseTargetPattern('127.0.0.1')] });
  const head = headOf(`127.0.0.1:${port}`, { method: 'POST', path: '/first', headers: ['trailer', 'x-sum', 'content-length', '5'] });
  const body = { stream: Readable.from([Buffer.from('hello')]), trailers: () => ['x-sum', '1'] };
  expect(await ask(upstream, head, body)).toMatchObject({ code: 200, body: 'ok' });
  expect(bytes).toMatch(/^transfer-encoding: chunked\r$/im);
  expect(bytes).not.toMatch(/content-length/i);
  expect(bytes).toMatch(/\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n$/);
  expect(errors).toEqual([]);
});

test('R25: nothing reads HTTP leniently', () => {
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  expect(sources.length).toBeGreaterThan(100);
  const lenient = sources.filter((file) =>
    /insecureHTTPParser|insecure-http-parser|httpValidation|strictContentLength: false/.test(readFileSync(`src/${file}`, 'utf8')),
  );
  expect(lenient).toEqual([]);
});
