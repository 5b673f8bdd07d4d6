import { once } from 'node:events';
import { connect as connectTLS, createSecureContext, TLSSocket } from 'node:tls';
import { expect, test, vi } from 'vitest';
import { issueCertificate } from '../../../src/hub/certificates/x509.ts';
import { TargetError } from '../../../src/tunnel/target-error.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { closedPort, echo, failure, hub, rawHandshake, take, target, text } from './ends.ts';
import { ADD_CLIENT, CONNECT, DATA, ERROR, PAUSE, peer, peerAgent, REMOVE_CLIENT, RESUME, SYNC_CONNECTIONS } from './peer.ts';

const clean = cleanUp();

test('the handshake: plain 101, no subprotocol, no extension, although both are offered', async () => {
  const { port } = await hub(clean);
  const offers = ['Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits', 'Sec-WebSocket-Protocol: fairlead, x'];
  const { head } = await rawHandshake(clean, port, offers);
  expect(head.split('\r\n').filter((line) => line !== '')).toEqual([
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
  ]);
});

test('what is no websocket handshake gets 400, and no session', async () => {
  const { port, sessions } = await hub(clean);
  const { head } = await rawHandshake(clean, port, ['Sec-WebSocket-Version: 12']);
  expect(head).toMatch(/^HTTP\/1.1 400 /);
  expect(sessions).toEqual([]);
});

test('connections from 2 upward, data at once, EOF at the end', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peer(ws);
  const stream = session.connect('127.0.0.1', 26443);
  stream.write('hello');
  const six = session.connect('::1', 443);
  expect(await agent.frame(({ type }) => type === CONNECT)).toMatchObject({
    id: 2n,
    deadline: 15_000n,
    payload: Buffer.from('tcp/127.0.0.1:26443'),
  });
  expect(await agent.frame(({ type }) => type === DATA)).toMatchObject({ id: 2n, deadline: 15_000n, payload: Buffer.from('hello') });
  expect(await agent.frame(({ id }) => id === 3n)).toMatchObject({ type: CONNECT, payload: Buffer.from('tcp/[::1]:443') });

  agent.send(2n, DATA, 'answer');
  agent.send(2n, ERROR, 'EOF');
  expect(await text(stream)).toBe('answer');
  expect(session.connections()).toBe(1);
  six.destroy();
  expect((await agent.frame(({ id, type }) => id === 3n && type === ERROR)).payload.toString()).toBe('EOF');
  expect(session.connections()).toBe(0);
  // The peer ended connection 2, so nothing was sent for it any more.
  expect(agent.frames.filter(({ id, type }) => id === 2n && type === ERROR)).toEqual([]);
});

test('a megabyte there and back through an agent and a target, and nothing stays open', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peerAgent(ws, { signal: clean.signal() });
  const { port, sockets } = await target(clean, echo);
  const bytes = Buffer.alloc(1 << 20, 'fairlead ');
  const streams = Array.from({ length: 4 }, () => session.connect('127.0.0.1', port));
  const read = await Promise.all(
    streams.map((stream) => {
      stream.write(bytes);
      return take(stream, bytes.length);
    }),
  );
  for (const got of read) expect(got.equals(bytes)).toBe(true);
  for (const stream of streams) stream.destroy();
  await vi.waitFor(() => expect([session.connections(), agent.open(), sockets.size]).toEqual([0, 0, 0]));
  expect(session.stats().buffered).toBe(0);
});

test('end() leaves the answer time to come: there is no half close', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  peerAgent(ws, { signal: clean.signal() });
  const { port } = await target(clean, (socket) => socket.once('data', () => socket.end('the whole answer')));
  const stream = session.connect('127.0.0.1', port);
  stream.end('request');
  expect(await text(stream)).toBe('the whole answer');
  await vi.waitFor(() => expect(session.connections()).toBe(0));
});

test('what came through TLS before its end is read whole, however late', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  peerAgent(ws, { signal: clean.signal() });
  const times = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) };
  const ca = issueCertificate({ commonName: 'ca', ca: true, ...times });
  const { cert, key } = issueCertificate({ commonName: 'target', altNames: ['127.0.0.1'], usages: ['serverAuth'], issuer: ca, ...times });
  const context = createSecureContext({ cert, key });
  const { port, sockets } = await target(clean, (raw) => {
    new TLSSocket(raw, { isServer: true, secureContext: context }).end('answer'.repeat(1_000));
  });
  const line = session.connect('127.0.0.1', port);
  const secured = connectTLS({ socket: line, host: '127.0.0.1', ca: ca.cert });
  await once(secured, 'secureConnect');
  // The target is gone, the agent has said so, and nothing has been read yet.
  await vi.waitFor(() => expect([sockets.size, session.connections()]).toEqual([0, 0]));
  await vi.waitFor(() => expect(line.readableEnded).toBe(true));
  expect(await text(secured)).toBe('answer'.repeat(1_000));
  secured.end();
  await vi.waitFor(() => expect(line.destroyed).toBe(true));
});

test('what is written after the target ended goes nowhere, and holds nobody up', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peer(ws);
  const stream = session.connect('127.0.0.1', 443);
  await agent.frame(({ type }) => type === CONNECT);
  agent.send(2n, ERROR, 'EOF');
  await vi.waitFor(() => expect(session.connections()).toBe(0));
  const written = new Promise((resolve) => void stream.write(Buffer.alloc(1 << 20), resolve));
  expect(await text(stream)).toBe('');
  await written;
  stream.end('more');
  await vi.waitFor(() => expect(stream.destroyed).toBe(true));
  expect(agent.frames.filter(({ type }) => type === DATA)).toEqual([]);
});

test('after end() a target that says nothing is left alone after a while', async () => {
  const { ws, session } = await (await hub(clean, { lingerMs: 50 })).agent();
  const agent = peer(ws);
  const stream = session.connect('127.0.0.1', 1);
  stream.end('request');
  expect((await agent.frame(({ type }) => type === ERROR)).payload.toString()).toBe('EOF');
  expect(session.connections()).toBe(0);
  expect(stream.destroyed).toBe(true);
});

test('a target that refuses is an error of that connection', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  peerAgent(ws, { signal: clean.signal() });
  const port = await closedPort();
  const stream = session.connect('127.0.0.1', port);
  stream.write('hello');
  const error = await failure(stream);
  expect(error).toBeInstanceOf(TargetError);
  expect(error).toMatchObject({ code: 502, message: expect.stringContaining(`tcp/127.0.0.1:${port}: dial tcp`) });
  expect(session.connections()).toBe(0);
});

test.each([
  ['dial tcp 10.0.0.1:443: i/o timeout', 504],
  ['context deadline exceeded', 504],
  ['connect not allowed', 403],
  ['dial tcp: lookup nowhere: no such host', 502],
  ['bell \u0007 and escape \u001b[2J', 502],
])('the error text %j', async (sent, code) => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peer(ws);
  const stream = session.connect('nowhere', 443);
  agent.send(2n, ERROR, sent);
  const error = await failure(stream);
  expect(error).toMatchObject({ code });
  expect(error.message).not.toMatch(/\p{C}/u);
});

test('data for a connection that nobody has is answered, other frames are not', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peer(ws);
  for (const type of [PAUSE, RESUME, ADD_CLIENT, REMOVE_CLIENT, ERROR, 99n]) agent.send(77n, type, 'a/1');
  agent.send(0n, SYNC_CONNECTIONS, Buffer.alloc(16));
  agent.send(-(2n ** 62n), DATA, 'x');
  agent.send(2n ** 62n, DATA, 'x');
  await agent.frame(({ id }) => id === 2n ** 62n);
  expect(agent.frames.map(({ id, type, payload }) => [id, type, payload.toString()])).toEqual([
    [-(2n ** 62n), ERROR, `connection not found ${-(2n ** 62n)}`],
    [2n ** 62n, ERROR, `connection not found ${2n ** 62n}`],
  ]);
  expect(session.connections()).toBe(0);
});

test('an agent may not open connections into the hub', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peer(ws);
  agent.send(5n, CONNECT, 'tcp/127.0.0.1:22');
  expect((await agent.frame(({ id }) => id === 5n)).payload.toString()).toBe('connect not allowed');
  expect(session.connections()).toBe(0);
});

test('the loss of the session ends all its connections, with data waiting or not', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peer(ws);
  const idle = session.connect('a', 1);
  const unread = session.connect('b', 2);
  const blocked = session.connect('c', 3);
  agent.send(3n, DATA, Buffer.alloc(30_000));
  agent.send(3n, DATA, Buffer.alloc(30_000));
  agent.send(4n, PAUSE);
  await vi.waitFor(() => expect(session.stats().buffered).toBeGreaterThan(0));
  blocked.write(Buffer.alloc(1 << 20));
  const errors = Promise.all([idle, unread, blocked].map(failure));
  ws.terminate();
  for (const error of await errors) expect(error).toMatchObject({ code: 503, message: expect.stringContaining('tunnel disconnect') });
  expect((await session.ended).message).toContain('1006');
  expect([session.connections(), session.stats().buffered]).toEqual([0, 0]);
  expect(() => session.connect('a', 1)).toThrow(expect.objectContaining({ code: 503 }));
});

test('the end of the session by the hub closes the websocket', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const stream = session.connect('a', 1);
  const error = failure(stream);
  session.end('the cluster was denied');
  expect(await error).toMatchObject({ code: 503, message: 'tunnel disconnect: the cluster was denied' });
  expect((await once(ws, 'close')).map(String)).toEqual(['1001', 'the cluster was denied']);
});

test('limits: too many connections, a name that is too long', async () => {
  const { session } = await (await hub(clean, { connections: 3 })).agent();
  for (let i = 0; i < 3; i++) session.connect('a', 1);
  expect(() => session.connect('a', 1)).toThrow(expect.objectContaining({ code: 429 }));
  const other = await (await hub(clean)).agent();
  expect(() => other.session.connect('n'.repeat(95), 443)).toThrow(expect.objectContaining({ code: 400 }));
  expect(other.session.connections()).toBe(0);
});
