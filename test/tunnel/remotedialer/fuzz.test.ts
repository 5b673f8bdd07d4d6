import { once } from 'node:events';
import { createConnection } from 'node:net';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { WebSocket } from 'ws';
import { serveRemotedialer } from '../../../src/tunnel/remotedialer/agent.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { limit, times } from '../../support/counts.ts';
import { echo, target, websocketHub } from './ends.ts';
import { hubProcess } from './hub-process-start.ts';
import { CONNECT, DATA, ERROR, type Peer, peer, peerFrame, putVarint, SYNC_CONNECTIONS } from './peer.ts';

const clean = cleanUp();
/** Messages of one session, and sessions: together 10^6 in the long run. */
const MESSAGES = 250;
const numRuns = times(60, 4_000);

const id = fc.oneof(
  { weight: 3, arbitrary: fc.bigInt({ min: -2n, max: 6n }) },
  { weight: 1, arbitrary: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }) },
);
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const varint = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(putVarint);
/** Frames that make sense one by one, frames that do not, and bytes that are none. */
function message(addresses: readonly string[]) {
  return fc.oneof(
    { weight: 8, arbitrary: fc.tuple(id, bytes(2_000)).map(([to, payload]) => peerFrame(to, DATA, payload)) },
    { weight: 4, arbitrary: fc.tuple(id, fc.constantFrom(...addresses)).map(([to, address]) => peerFrame(to, CONNECT, address)) },
    {
      weight: 4,
      arbitrary: fc.tuple(id, fc.bigInt({ min: 3n, max: 12n }), bytes(200)).map(([to, type, payload]) => peerFrame(to, type, payload)),
    },
    { weight: 1, arbitrary: fc.tuple(id, fc.constantFrom('EOF', 'broken', '')).map(([to, text]) => peerFrame(to, ERROR, text)) },
  );
}
const broken = fc.oneof(
  bytes(40),
  fc.tuple(varint, varint, varint, bytes(20)).map((parts) => Buffer.concat(parts)),
  fc.integer({ min: 10, max: 40 }).map((length) => Buffer.alloc(length, 0xff)),
  fc.constant(peerFrame(2n, DATA, Buffer.alloc(65 * 1024))),
);
const conversation = (addresses: readonly string[]) =>
  fc.tuple(fc.array(message(addresses), { minLength: MESSAGES - 1, maxLength: MESSAGES, size: 'max' }), fc.option(broken));

/** Sends everything and waits until it was handled: the websocket is closed, or a pong came. */
async function converse(ws: WebSocket, [messages, last]: [Buffer[], Buffer | null]): Promise<void> {
  const closed = once(ws, 'close');
  for (const bytes of last ? [...messages, last] : messages) ws.send(bytes, { binary: true });
  ws.ping();
  await Promise.race([closed, once(ws, 'pong')]);
  ws.terminate();
}

test(
  'R37: fuzzed frames of an agent end at most their own session',
  async () => {
    const hub = await hubProcess(clean);
    const open = async () => {
      const ws = new WebSocket(`ws://127.0.0.1:${hub.port}/`, { perMessageDeflate: false });
      ws.on('error', () => {});
      clean.after(() => ws.terminate());
      await once(ws, 'open');
      return ws;
    };
    const witness = peer(await open());
    let count = 0;
    const fuzz = (runs: number) =>
      fc.assert(
        fc.asyncProperty(conversation(['tcp/127.0.0.1:22', 'x']), async (said) => {
          await converse(await open(), said);
          await alive(witness, `there ${++count}`);
        }),
        { numRuns: runs },
      );
    // The first sessions take memory for good: code, pools.
    await fuzz(20);
    const first = await hub.state();
    await fuzz(numRuns);
    await vi.waitFor(async () => expect((await hub.state()).sessions).toBe(1), { timeout: 10_000 });
    const last = await hub.state();
    expect(last.heap - first.heap).toBeLessThan(4 << 20);
    expect(last.rss - first.rss).toBeLessThan(50 << 20);
  },
  limit(120_000, 3_600_000),
);

async function alive(witness: Peer, text: string): Promise<void> {
  witness.send(2n, DATA, text);
  await witness.frame(({ payload }) => payload.toString() === text);
  witness.frames.length = 0;
}

test(
  'R37: fuzzed frames of a hub end at most their own session, and leave no socket',
  async () => {
    const { port, sockets } = await target(clean, echo);
    const hub = await websocketHub(clean);
    const signal = clean.signal();
    const connect = async (to: { host: string; port: number }) => {
      const socket = createConnection({ host: to.host, port: to.port });
      await once(socket, 'connect');
      return socket;
    };
    const addresses = [`tcp/127.0.0.1:${port}`, 'tcp/127.0.0.1:1', 'tcp/', '', 'c1::tcp/127.0.0.1:1', 'x'.repeat(300)];
    await fc.assert(
      fc.asyncProperty(conversation(addresses), async (said) => {
        const next = hub.next();
        const session = await serveRemotedialer({
          url: new URL(`ws://127.0.0.1:${hub.port}/x`),
          open: () => connect({ host: '127.0.0.1', port: hub.port }),
          token: () => 't',
          userAgent: 'x',
          connect,
          signal,
        });
        await converse(await next, said);
        await session.ended;
        expect([session.connections(), session.stats().buffered]).toEqual([0, 0]);
      }),
      { numRuns },
    );
    await vi.waitFor(() => expect(sockets.size).toBe(0), { timeout: 10_000 });
  },
  limit(120_000, 3_600_000),
);

test('R37: a flood of connections is refused, then ends the session', async () => {
  const hub = await websocketHub(clean);
  const next = hub.next();
  let dialled = 0;
  let aborted = 0;
  const session = await serveRemotedialer({
    url: new URL(`ws://127.0.0.1:${hub.port}/x`),
    async open() {
      const socket = createConnection(hub.port, '127.0.0.1');
      await once(socket, 'connect');
      return socket;
    },
    token: () => 't',
    userAgent: 'x',
    connect: (_to, signal) => {
      dialled++;
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          aborted++;
          reject(new Error('aborted'));
        });
      });
    },
    limits: { connections: 100 },
    signal: clean.signal(),
  });
  const side = peer(await next, { fragment: 1 << 20 });
  side.send(0n, SYNC_CONNECTIONS);
  for (let i = 0; i < 500; i++) side.send(BigInt(i), CONNECT, 'tcp/nowhere:1');
  await vi.waitFor(() => expect(side.frames.filter(({ type }) => type === ERROR).length).toBe(400));
  expect([dialled, session.connections()]).toEqual([100, 100]);
  for (let i = 500; i < 100_000 && side.ws.readyState === side.ws.OPEN; i++) {
    side.send(BigInt(i), CONNECT, 'tcp/nowhere:1');
    if (i % 1_000 === 0) await new Promise(setImmediate);
  }
  expect((await session.ended).message).toBe('too many frames that lead nowhere');
  expect([dialled, aborted, session.connections()]).toEqual([100, 100, 0]);
});

test('R37: an id that is in use ends the session', async () => {
  const hub = await websocketHub(clean);
  const next = hub.next();
  const { port, sockets } = await target(clean, echo);
  const dial = async (to: number) => {
    const socket = createConnection(to, '127.0.0.1');
    await once(socket, 'connect');
    return socket;
  };
  const session = await serveRemotedialer({
    url: new URL(`ws://127.0.0.1:${hub.port}/x`),
    open: () => dial(hub.port),
    token: () => 't',
    userAgent: 'x',
    connect: (to) => dial(to.port),
    signal: clean.signal(),
  });
  const side = peer(await next);
  for (let i = 0; i < 2; i++) side.send(-5n, CONNECT, `tcp/127.0.0.1:${port}`);
  expect((await session.ended).message).toBe('a connection was opened twice');
  expect(await side.closed).toBe(1002);
  await vi.waitFor(() => expect(sockets.size).toBe(0));
});
