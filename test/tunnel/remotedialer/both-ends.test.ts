import { once } from 'node:events';
import { createServer as createHTTP } from 'node:http';
import { createServer as createHTTPS, request } from 'node:https';
import { type AddressInfo, createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTLS } from 'node:tls';
import { Pool } from 'undici';
import { expect, test, vi } from 'vitest';
import { remotedialerPath, serveRemotedialer } from '../../../src/tunnel/remotedialer/agent.ts';
import { type DialerSession, dialerSession } from '../../../src/tunnel/remotedialer/dialer.ts';
import { websocketAcceptor } from '../../../src/tunnel/remotedialer/websocket.ts';
import { makeCa, makeServer } from '../../hub/auth/pki.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { times } from '../../support/counts.ts';
import { failure, take } from './ends.ts';

const clean = cleanUp();
const MIB = 1 << 20;

async function listen(server: ReturnType<typeof createHTTPS>): Promise<number> {
  const sockets = new Set<Duplex>();
  server.on('secureConnection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  clean.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Our hub behind TLS, our agent, and a target that speaks HTTPS, all of it through one websocket. */
async function bothEnds() {
  const ca = makeCa('ca');
  const { key, cert } = makeServer(ca);
  const target = createHTTPS({ key, cert }, (incoming, response) => {
    if (incoming.url === '/big') response.end(Buffer.alloc(times(32, 256) * MIB, 'b'));
    else incoming.pipe(response);
  });
  target.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    socket.pipe(socket);
  });
  const targetPort = await listen(target);

  const accept = websocketAcceptor();
  const hub = createHTTPS({ key, cert });
  const accepted = Promise.withResolvers<DialerSession>();
  hub.on('upgrade', (incoming, socket, head) => {
    expect(incoming.url).toBe(remotedialerPath('c/1'));
    expect(incoming.headers.authorization).toBe('Bearer secret');
    accept(incoming, socket, head, (transport) => accepted.resolve(dialerSession(transport)));
  });
  const hubPort = await listen(hub);
  const tls = async (socket: Duplex) => {
    const secure = connectTLS({ socket, ca: ca.cert, servername: 'localhost', ALPNProtocols: ['http/1.1'] });
    await once(secure, 'secureConnect');
    return secure;
  };
  const listener = await serveRemotedialer({
    url: new URL(`https://127.0.0.1:${hubPort}${remotedialerPath('c/1')}`),
    open: () => tls(createConnection(hubPort, '127.0.0.1')),
    token: async () => 'secret',
    userAgent: 'fairlead-agent/0.1.0',
    async connect({ host, port }) {
      const socket = createConnection({ host, port });
      await once(socket, 'connect');
      return socket;
    },
    signal: clean.signal(),
  });
  const dialer = await accepted.promise;
  clean.after(() => dialer.end('the test is over'));
  return { dialer, listener, targetPort, connect: () => tls(dialer.connect('127.0.0.1', targetPort)) };
}

/** One request on a connection of its own. */
async function ask(socket: Duplex, path: string, body?: Buffer): Promise<number> {
  const asked = request({
    path,
    method: body ? 'POST' : 'GET',
    headers: { Host: 'localhost', Connection: 'close' },
    createConnection: () => socket as never,
  });
  asked.end(body);
  const [response] = await once(asked, 'response');
  let length = 0;
  for await (const chunk of response) length += chunk.length;
  return length;
}

test('TLS to the target inside the tunnel, large bodies both ways, many at once, and nothing stays', async () => {
  const { dialer, listener, connect } = await bothEnds();
  expect(await ask(await connect(), '/big')).toBe(times(32, 256) * MIB);
  const lengths = await Promise.all(Array.from({ length: 8 }, async (_, i) => ask(await connect(), '/echo', Buffer.alloc(i * 300_000))));
  expect(lengths).toEqual(Array.from({ length: 8 }, (_, i) => i * 300_000));
  await vi.waitFor(() => expect([dialer.connections(), listener.connections()]).toEqual([0, 0]));
  expect([dialer.stats().buffered, listener.stats().buffered]).toEqual([0, 0]);
});

test('an upgraded connection lives until one side ends it', async () => {
  const { dialer, listener, connect } = await bothEnds();
  const socket = await connect();
  socket.write('GET /exec HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
  expect((await take(socket, 60)).toString()).toContain('101 Switching Protocols');
  for (const text of ['ls\n', 'exit\n']) {
    socket.write(text);
    expect((await take(socket, text.length)).toString()).toBe(text);
  }
  // The end of what the caller sends goes through as the end mark of TLS; the target answers with its own end.
  socket.resume().end();
  await once(socket, 'close');
  await vi.waitFor(() => expect([dialer.connections(), listener.connections()]).toEqual([0, 0]));
});

test('the agent goes while bytes are under way', async () => {
  const { dialer, listener, targetPort } = await bothEnds();
  const stream = dialer.connect('127.0.0.1', targetPort);
  const error = failure(stream);
  stream.write(Buffer.alloc(8 * MIB));
  listener.end('the agent stops');
  expect(await error).toMatchObject({ code: 503, message: expect.stringContaining('tunnel disconnect') });
  await vi.waitFor(() => expect([dialer.connections(), listener.connections()]).toEqual([0, 0]));
});

test('a pool of connections, kept alive, without TLS: as the hub uses them', async () => {
  const { dialer, listener } = await bothEnds();
  const plain = createHTTP((incoming, response) => {
    if (incoming.url === '/big') response.end(Buffer.alloc(8 * MIB, 'b'));
    else if (incoming.url === '/cut') response.write('half', () => response.destroy());
    else incoming.pipe(response);
  });
  let opened = 0;
  plain.on('connection', () => opened++);
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  clean.after(() => plain.close());
  const { port } = plain.address() as AddressInfo;
  const pool = new Pool('http://target', {
    connections: 2,
    // The callback must not be called before this returns.
    connect: (_options, callback) => void setImmediate(() => callback(null, dialer.connect('127.0.0.1', port) as never)),
  });
  clean.after(() => pool.destroy());
  const ask = async (path: string, body?: Buffer) => {
    const answer = await pool.request({ path, method: body ? 'POST' : 'GET', ...(body && { body }) });
    return (await answer.body.bytes()).length;
  };
  for (let i = 0; i < 50; i++) expect(await ask('/echo', Buffer.alloc(i * 1_000))).toBe(i * 1_000);
  expect(await Promise.all([ask('/big'), ask('/big'), ask('/echo', Buffer.alloc(3 * MIB))])).toEqual([8 * MIB, 8 * MIB, 3 * MIB]);
  expect(opened).toBeLessThanOrEqual(2);
  expect(dialer.connections()).toBe(opened);
  await expect(ask('/cut')).rejects.toThrow();
  expect(await ask('/echo', Buffer.alloc(5))).toBe(5);
  await pool.close();
  await vi.waitFor(() => expect([dialer.connections(), listener.connections()]).toEqual([0, 0]));
});
