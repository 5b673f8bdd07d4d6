import { once } from 'node:events';
import { createConnection } from 'node:net';
import { expect, test, vi } from 'vitest';
import { WebSocket } from 'ws';
import { serveRemotedialer } from '../../../src/tunnel/remotedialer/agent.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { failure, hub, websocketHub } from './ends.ts';
import { hubProcess } from './hub-process-start.ts';
import { DATA, peer } from './peer.ts';

const clean = cleanUp();
const fast = { pingMs: 50, silenceMs: 250 };

test('a peer that says nothing at all is given up, with its connections', async () => {
  const { socket, session } = await (await hub(clean, fast)).raw();
  socket.resume();
  const stream = session.connect('a', 1);
  expect(await failure(stream)).toMatchObject({ code: 503, message: 'tunnel disconnect: nothing was heard for 0.25 s' });
  expect((await session.ended).message).toContain('nothing was heard');
});

test('a peer that answers pings stays, and the round trip is known', async () => {
  const { ws, session } = await (await hub(clean, fast)).agent();
  let pings = 0;
  ws.on('ping', () => pings++);
  await vi.waitFor(() => expect(pings).toBeGreaterThan(8), { timeout: 5_000 });
  expect(ws.readyState).toBe(ws.OPEN);
  expect(session.roundTripMs()).toBeGreaterThan(0);
  expect(Date.now() - session.lastHeard().getTime()).toBeLessThan(2_000);
});

test('a peer that answers no pings but sends its own stays', async () => {
  const hubEnd = await hub(clean, fast);
  const { socket, session } = await hubEnd.raw();
  socket.resume();
  let sent = 0;
  // A masked ping without content.
  const timer = setInterval(() => {
    socket.write(Buffer.from('898000000000', 'hex'));
    sent++;
  }, 25);
  clean.after(() => clearInterval(timer));
  await vi.waitFor(() => expect(sent).toBeGreaterThan(40), { timeout: 5_000 });
  expect(session.roundTripMs()).toBeUndefined();
  expect(socket.destroyed).toBe(false);
  clearInterval(timer);
  await session.ended;
});

test('the agent pings, and gives up a hub that is silent', async () => {
  const end = await websocketHub(clean);
  const next = end.next();
  const session = await serveRemotedialer({
    url: new URL(`ws://127.0.0.1:${end.port}/x`),
    async open() {
      const socket = createConnection(end.port, '127.0.0.1');
      await once(socket, 'connect');
      return socket;
    },
    token: () => 't',
    userAgent: 'x',
    connect: () => Promise.reject(new Error('never')),
    limits: fast,
    signal: clean.signal(),
  });
  const ws = await next;
  let pings = 0;
  ws.on('ping', () => pings++);
  await vi.waitFor(() => expect(pings).toBeGreaterThan(8), { timeout: 5_000 });
  ws.pause();
  expect((await session.ended).message).toContain('nothing was heard');
});

test('a peer that takes nothing is given up, although it pings', async () => {
  const hubEnd = await hub(clean, { ...fast, unreadMs: 300 });
  const { socket, session } = await hubEnd.raw();
  socket.pause();
  const timer = setInterval(() => socket.write(Buffer.from('898000000000', 'hex')), 25);
  clean.after(() => clearInterval(timer));
  const stream = session.connect('a', 1);
  const error = failure(stream);
  for (let i = 0; i < 32; i++) stream.write(Buffer.alloc(1 << 20));
  expect((await error).message).toContain('the peer took nothing');
});

test('a process that was stopped for longer than the silence does not give up its peer', async () => {
  const { child, port, state } = await hubProcess(clean, fast);
  const ws = new WebSocket(`ws://127.0.0.1:${port}/`);
  clean.after(() => ws.terminate());
  const agent = peer(ws);
  await agent.frame(({ id }) => id === 2n);
  child.kill('SIGSTOP');
  const stoppedAt = performance.now();
  await vi.waitFor(() => expect(performance.now() - stoppedAt).toBeGreaterThan(fast.silenceMs * 4), { timeout: 5_000 });
  child.kill('SIGCONT');
  agent.send(2n, DATA, 'still there');
  expect((await agent.frame(({ type }) => type === DATA)).payload.toString()).toBe('still there');
  expect((await state()).sessions).toBe(1);
});
