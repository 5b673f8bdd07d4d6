import type { RequestListener } from 'node:http';
import { connect as dial, type Socket } from 'node:net';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { times } from '../../support/counts.ts';
import { makeServer } from '../auth/pki.ts';
import { ca, get, secure, setUp } from './loopback-listener.ts';

const cleaning = cleanUp();

/** Sends text over TLS; resolves with what came back and after how long the server had closed. */
function talk(port: number, text: string, more: ConnectionOptions = {}): Promise<{ text: string; ms: number; alpn: unknown }> {
  const began = performance.now();
  return new Promise((resolve) => {
    let back = '';
    const socket: TLSSocket = secure(port, more);
    socket.on('secureConnect', () => socket.write(text));
    socket.on('data', (chunk: Buffer) => {
      back += chunk.toString('latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve({ text: back, ms: performance.now() - began, alpn: socket.alpnProtocol }));
  });
}

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';
const ATTEMPTS = times(300, 100_000);

test(`R30: ${ATTEMPTS} HTTP/2 prefaces are closed within a second each, and memory stays`, {
  timeout: 60_000 + ATTEMPTS * 20,
}, async () => {
  const { port } = await setUp(cleaning);
  const round = async (count: number) => {
    let left = count;
    const worker = async () => {
      while (left-- > 0) {
        const { text, ms } = await talk(port, PREFACE);
        expect(text).toMatch(/^HTTP\/1\.1 4\d\d |^$/);
        expect(ms).toBeLessThan(2_000);
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
  };
  await round(100);
  global.gc?.();
  const before = process.memoryUsage().rss;
  await round(ATTEMPTS);
  global.gc?.();
  // The clients live in this process too.
  expect(process.memoryUsage().rss - before).toBeLessThan(60 << 20);
  expect(await get(port)).toBe(200);
});

test('R30: ALPN gives http/1.1 or nothing; who insists on h2 gets no connection', async () => {
  const { port } = await setUp(cleaning);
  const negotiated = (ALPNProtocols: string[]) =>
    new Promise((resolve) => {
      const socket = secure(port, { ALPNProtocols });
      socket.on('secureConnect', () => {
        resolve(socket.alpnProtocol);
        socket.destroy();
      });
      socket.on('error', () => resolve('refused'));
    });
  expect(await negotiated(['h2', 'http/1.1'])).toBe('http/1.1');
  expect(await negotiated(['http/1.1'])).toBe('http/1.1');
  expect(await negotiated(['h2'])).toBe('refused');
});

test('R30: an upgrade to h2c is not taken: the answer is HTTP/1.1', async () => {
  const { port } = await setUp(cleaning);
  for (const upgrade of ['h2c', 'h2', 'HTTP/2.0']) {
    const { text } = await talk(
      port,
      `GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: ${upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 (200|400) /);
    expect(text).not.toContain('101');
  }
});

const SLOW = times(100, 2_000);

test(`R31: ${SLOW} slow clients are cut (headers 1 s, body 2 s here), and others are answered meanwhile`, {
  timeout: 120_000,
}, async () => {
  const app: RequestListener = (incoming, response) => {
    if (incoming.method === 'GET') return void response.end('ok');
    incoming.resume().on('end', () => response.end('ok'));
    incoming.on('error', () => undefined);
  };
  const limits = { headersTimeout: 1_000, requestTimeout: 2_000, connectionsCheckingInterval: 100 };
  const { port } = await setUp(cleaning, app, limits);
  const kinds = [
    // Nothing at all; a header that never ends; one that grows; a body that never comes; one that drips.
    (_: Socket) => undefined,
    (socket: Socket) => socket.write('GET / HTTP/1.1\r\nHost: x\r\n'),
    (socket: Socket) => drip(socket, 'GET / HTTP/1.1\r\nHost: x\r\n', 'X-A: b\r\n'),
    (socket: Socket) => socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n'),
    (socket: Socket) => drip(socket, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n', 'x'),
  ];
  const lives: Promise<number>[] = [];
  for (let at = 0; at < SLOW; at++) {
    const socket = secure(port);
    cleaning.after(() => socket.destroy());
    lives.push(
      new Promise((resolve) => {
        let began = performance.now();
        socket.on('secureConnect', () => {
          began = performance.now();
          kinds[at % kinds.length]?.(socket);
        });
        socket.on('error', () => undefined).on('data', () => undefined);
        socket.on('close', () => resolve(performance.now() - began));
      }),
    );
  }
  const waits: number[] = [];
  let over = false;
  const ended = Promise.all(lives).finally(() => {
    over = true;
  });
  while (!over) {
    const began = performance.now();
    expect(await get(port)).toBe(200);
    waits.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  for (const ms of await ended) expect(ms).toBeLessThan(6_000);
  const p50 = waits.toSorted((a, b) => a - b)[Math.floor(waits.length / 2)] ?? 0;
  expect(p50).toBeLessThan(250);
});

function drip(socket: Socket, head: string, drop: string): void {
  socket.write(head);
  const timer = setInterval(() => socket.write(drop), 100);
  socket.once('close', () => clearInterval(timer));
}

test('R32: headers beyond a mebibyte are 431, bytes that are no request 400; the process answers on', async () => {
  const { port, errors } = await setUp(cleaning);
  expect((await talk(port, `GET / HTTP/1.1\r\nHost: x\r\nX-Big: ${'x'.repeat(1_150_000)}\r\n\r\n`)).text).toMatch(/^HTTP\/1\.1 431 |^$/);
  for (const bytes of [
    '\0\0\0\0\r\n\r\n',
    'GET\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
  ])
    expect((await talk(port, bytes)).text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\nConnection: close\r\n/);
  expect(await get(port)).toBe(200);
  expect(errors).toEqual([]);
});

test('plain HTTP on the TLS port is cut', async () => {
  const { port } = await setUp(cleaning);
  const back = await new Promise<string>((resolve) => {
    let text = '';
    const socket = dial(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    socket.on('error', () => undefined).on('close', () => resolve(text));
  });
  expect(back).not.toContain('200');
  expect(await get(port)).toBe(200);
});

test('a new certificate is taken into use for new connections; one that is broken is told, and the old one stays', async () => {
  const { port, certificate, errors } = await setUp(cleaning);
  const serial = () =>
    new Promise<string>((resolve, reject) => {
      const socket = secure(port);
      socket.on('secureConnect', () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      });
      socket.on('error', reject);
    });
  const first = await serial();
  certificate.replace(makeServer(ca));
  const second = await serial();
  expect(second).not.toBe(first);
  certificate.replace({ cert: 'broken', key: 'broken' });
  expect(errors).toHaveLength(1);
  expect(await serial()).toBe(second);
});
