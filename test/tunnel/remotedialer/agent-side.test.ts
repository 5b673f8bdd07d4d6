import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { remotedialerPath, serveRemotedialer } from '../../../src/tunnel/remotedialer/agent.ts';
import type { Limits } from '../../../src/tunnel/remotedialer/limits.ts';
import { type Connect, parseAddress } from '../../../src/tunnel/remotedialer/listener.ts';
import { HandshakeError } from '../../../src/tunnel/remotedialer/websocket-client.ts';
import { TargetError } from '../../../src/tunnel/target-error.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { closedPort, echo, target, websocketHub } from './ends.ts';
import { CONNECT, DATA, ERROR, PAUSE, type Peer, peer, RESUME } from './peer.ts';

const clean = cleanUp();

async function dialTCP(host: string, port: number): Promise<Socket> {
  const socket = createConnection({ host, port });
  await once(socket, 'connect');
  return socket;
}

async function agentOf(hub: Awaited<ReturnType<typeof websocketHub>>, connect?: Connect, limits: Partial<Limits> = {}) {
  const controller = new AbortController();
  clean.after(() => controller.abort());
  const next = hub.next();
  const session = await serveRemotedialer({
    url: new URL(`ws://127.0.0.1:${hub.port}${remotedialerPath('c-1')}`),
    open: () => dialTCP('127.0.0.1', hub.port),
    token: () => 'the-token',
    userAgent: 'fairlead-agent/0.1.0',
    connect: connect ?? (({ host, port }) => dialTCP(host, port)),
    limits,
    signal: controller.signal,
  });
  return { session, controller, next };
}

async function tunnel(connect?: Connect, limits: Partial<Limits> = {}) {
  const hub = await websocketHub(clean);
  const { session, controller, next } = await agentOf(hub, connect, limits);
  return { hub, session, controller, side: peer(await next, { fragment: 1 << 20 }) };
}

const received = (side: Peer, id: bigint) =>
  Buffer.concat(side.frames.filter((frame) => frame.id === id && frame.type === DATA).map(({ payload }) => payload));

test('the handshake: path, token, no extension, no subprotocol', async () => {
  const { hub, side } = await tunnel();
  const [request] = hub.requests;
  expect(request?.url).toBe('/apis/proxies.clusternet.io/v1alpha1/sockets/c-1');
  expect(request?.headers).toMatchObject({
    authorization: 'Bearer the-token',
    host: `127.0.0.1:${hub.port}`,
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
  });
  expect(request?.headers).not.toHaveProperty('sec-websocket-extensions');
  expect(request?.headers).not.toHaveProperty('sec-websocket-protocol');
  expect(side.ws.extensions).toBe('');
});

test('a refused handshake says so, and leaves no connection', async () => {
  const hub = await websocketHub(clean);
  hub.refuse();
  const sockets: Duplex[] = [];
  const attempt = serveRemotedialer({
    url: new URL(`wss://127.0.0.1:${hub.port}/x`),
    async open() {
      const socket = await dialTCP('127.0.0.1', hub.port);
      sockets.push(socket);
      return socket;
    },
    token: () => 'the-token',
    userAgent: 'x',
    connect: () => Promise.reject(new Error('never')),
    signal: clean.signal(),
  });
  const error: unknown = await attempt.catch((error: unknown) => error);
  expect(error).toBeInstanceOf(HandshakeError);
  expect(error).toMatchObject({ status: 403, message: '403 not your socket' });
  expect(sockets.map(({ destroyed }) => destroyed)).toEqual([true]);
});

test('a hub that never answers the handshake is given up', async () => {
  const silent = await target(clean, (socket) => void socket.resume());
  const attempt = serveRemotedialer({
    url: new URL(`wss://127.0.0.1:${silent.port}/x`),
    open: () => dialTCP('127.0.0.1', silent.port),
    token: () => 'the-token',
    userAgent: 'x',
    connect: () => Promise.reject(new Error('never')),
    timeoutMs: 100,
    signal: clean.signal(),
  });
  await expect(attempt).rejects.toThrow();
  await vi.waitFor(() => expect(silent.sockets.size).toBe(0));
});

test('data that comes before the target is reached waits for it', async () => {
  const { port, sockets } = await target(clean, echo);
  const { promise: allowed, resolve: allow } = Promise.withResolvers<void>();
  const { session, side } = await tunnel(async (to) => {
    await allowed;
    return dialTCP(to.host, to.port);
  });
  side.send(2n, CONNECT, `tcp/127.0.0.1:${port}`);
  side.send(2n, DATA, 'early ');
  side.send(2n, DATA, 'bytes');
  await vi.waitFor(() => expect(session.stats().buffered).toBeGreaterThan(0));
  allow();
  await vi.waitFor(() => expect(received(side, 2n).toString()).toBe('early bytes'));
  side.send(2n, ERROR, 'EOF');
  await vi.waitFor(() => expect([session.connections(), sockets.size]).toEqual([0, 0]));
});

test('ids are int64: negative, more than 2^53, both ends of the range', async () => {
  const { port } = await target(clean, echo);
  const { session, side } = await tunnel();
  const ids = [-1n, 0n, 2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 63n - 1n, -(2n ** 63n)];
  for (const id of ids) {
    side.send(id, CONNECT, `tcp/127.0.0.1:${port}`);
    side.send(id, DATA, `for ${id}`);
  }
  for (const id of ids) await vi.waitFor(() => expect(received(side, id).toString()).toBe(`for ${id}`));
  expect(session.connections()).toBe(ids.length);
  for (const id of ids) side.send(id, ERROR, 'EOF');
  await vi.waitFor(() => expect(session.connections()).toBe(0));
});

test('the end of a target is told at once, after its last bytes', async () => {
  const { port, sockets } = await target(clean, (socket) => socket.end('all I have'));
  const { session, side } = await tunnel();
  side.send(2n, CONNECT, `tcp/127.0.0.1:${port}`);
  expect((await side.frame(({ type }) => type === ERROR)).payload.toString()).toBe('EOF');
  expect(received(side, 2n).toString()).toBe('all I have');
  await vi.waitFor(() => expect([session.connections(), sockets.size]).toEqual([0, 0]));
});

test('bytes before the end of a connection all reach the target', async () => {
  let got = 0;
  const { port, sockets } = await target(clean, (socket) => socket.on('data', (chunk) => (got += chunk.length)));
  const { side } = await tunnel();
  side.send(2n, CONNECT, `tcp/127.0.0.1:${port}`);
  for (let i = 0; i < 20; i++) side.send(2n, DATA, Buffer.alloc(32 * 1024));
  side.send(2n, ERROR, 'EOF');
  await vi.waitFor(() => expect([got, sockets.size]).toEqual([20 * 32 * 1024, 0]));
});

test('failures: refused by the target, by the policy, no address, too late', async () => {
  const port = await closedPort();
  const connect: Connect = ({ host, port: to }, signal) => {
    if (host === '169.254.169.254') return Promise.reject(new TargetError(403, 'metadata addresses are never reached'));
    if (host === 'slow') return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));
    return dialTCP(host, to);
  };
  const { session, side } = await tunnel(connect, { dialMs: 50 });
  const answer = async (id: bigint, address: string) => {
    side.send(id, CONNECT, address);
    const { payload } = await side.frame((frame) => frame.id === id && frame.type === ERROR);
    expect(payload.length).toBeLessThanOrEqual(100);
    return payload.toString();
  };
  expect(await answer(2n, `tcp/127.0.0.1:${port}`)).toContain('ECONNREFUSED');
  expect(await answer(3n, 'tcp/169.254.169.254:80')).toBe('connect not allowed: metadata addresses are never reached');
  expect(await answer(4n, 'unix//var/run/docker.sock')).toContain('connect not allowed');
  expect(await answer(5n, 'tcp/slow:80')).toBe('dial tcp/slow:80: i/o timeout');
  expect(await answer(6n, `tcp/${'ü'.repeat(400)}:80`)).toContain('connect not allowed');
  expect(session.connections()).toBe(0);
});

test('a connection that was given up while it was dialled leaves no socket', async () => {
  const { port, sockets } = await target(clean, echo);
  const { promise: allowed, resolve: allow } = Promise.withResolvers<void>();
  const aborted: boolean[] = [];
  const { session, side } = await tunnel(async (to, signal) => {
    signal.addEventListener('abort', () => aborted.push(true));
    await allowed;
    return dialTCP(to.host, to.port);
  });
  side.send(2n, CONNECT, `tcp/127.0.0.1:${port}`);
  await vi.waitFor(() => expect(session.connections()).toBe(1));
  side.send(2n, ERROR, 'cancelled by the caller');
  await vi.waitFor(() => expect(session.connections()).toBe(0));
  expect(aborted).toEqual([true]);
  allow();
  await vi.waitFor(() => expect(sockets.size).toBe(0));
});

test('a paused connection sends nothing until it is resumed, and others go on', async () => {
  const { port } = await target(clean, (socket) => void socket.write(Buffer.alloc(300_000)));
  const { side } = await tunnel();
  side.send(2n, CONNECT, `tcp/127.0.0.1:${port}`);
  side.send(2n, PAUSE);
  side.send(3n, CONNECT, `tcp/127.0.0.1:${port}`);
  await vi.waitFor(() => expect(received(side, 3n).length).toBe(300_000));
  expect(received(side, 2n).length).toBe(0);
  side.send(2n, RESUME);
  await vi.waitFor(() => expect(received(side, 2n).length).toBe(300_000));
});

test('the end of the session closes the sockets of all targets', async () => {
  const { port, sockets } = await target(clean, echo);
  const { session, side } = await tunnel();
  for (const id of [2n, 3n, 4n]) side.send(id, CONNECT, `tcp/127.0.0.1:${port}`);
  await vi.waitFor(() => expect(sockets.size).toBe(3));
  side.ws.terminate();
  await session.ended;
  await vi.waitFor(() => expect([session.connections(), sockets.size]).toEqual([0, 0]));
});

test('the signal ends the session', async () => {
  const { session, side, controller } = await tunnel();
  controller.abort();
  expect((await session.ended).message).toBe('the agent stops');
  expect(await side.closed).toBe(1001);
});

test('addresses', () => {
  expect(parseAddress(Buffer.from('tcp/[fd00::1]:6443'))).toEqual({ host: 'fd00::1', port: 6443 });
  expect(parseAddress(Buffer.from('tcp/kubernetes.default.svc:443'))).toEqual({ host: 'kubernetes.default.svc', port: 443 });
  for (const wrong of [
    'tcp/',
    'tcp/a',
    'tcp/a:0',
    'tcp/a:65536',
    'tcp/a:1\n',
    'udp/a:1',
    'tcp/a b:1',
    'tcp/:1',
    'tcp/a:1/x',
    'c1::tcp/a:1',
  ]) {
    expect(parseAddress(Buffer.from(wrong))).toBeUndefined();
  }
});
