import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { LIMITS } from '../../../src/tunnel/remotedialer/limits.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { limit, times } from '../../support/counts.ts';
import { threadTime } from '../../support/thread-time.ts';
import { echo, failure, hub, take, target } from './ends.ts';
import { CONNECT, DATA, ERROR, PAUSE, peer, peerAgent, RESUME } from './peer.ts';

const clean = cleanUp();
const KIB = 1024;
const MIB = 1024 * KIB;

/** The most that waited for readers, looked at whenever the hub hands over bytes. */
function watch(stats: () => { buffered: number }): () => number {
  let most = 0;
  const timer = setInterval(() => {
    most = Math.max(most, stats().buffered);
  }, 1);
  clean.after(() => clearInterval(timer));
  return () => Math.max(most, stats().buffered);
}

test(
  'R38: a reader that stands still is paused, keeps its connection, and reads everything later',
  async () => {
    const total = times(32, 256) * MIB;
    const { ws, session } = await (await hub(clean)).agent();
    const agent = peerAgent(ws, { signal: clean.signal() });
    const block = Buffer.alloc(MIB, 'x');
    const bulk = await target(clean, (socket) => {
      let left = total / MIB;
      const more = () => {
        while (left > 0) {
          left--;
          if (!socket.write(block)) return void socket.once('drain', more);
        }
      };
      more();
    });
    const small = await target(clean, echo);
    const most = watch(session.stats);
    const stalled = session.connect('127.0.0.1', bulk.port);
    await vi.waitFor(() => expect(agent.pausesSeen()).toBe(1));
    // Longer than a reader may keep the others waiting.
    await sleep(LIMITS.holdMs * 1.5);
    const other = session.connect('127.0.0.1', small.port);
    other.write('ping');
    expect((await take(other, 4)).toString()).toBe('ping');
    expect(stalled.destroyed).toBe(false);
    expect(most()).toBeLessThanOrEqual(LIMITS.underwayBytes);
    expect((await take(stalled, total)).length).toBe(total);
    expect(session.stats()).toEqual({ buffered: 0, ignoresPause: false });
    stalled.destroy();
    other.destroy();
    await vi.waitFor(() => expect([session.connections(), agent.open()]).toEqual([0, 0]));
  },
  limit(60_000, 300_000),
);

test(
  'R38: a peer that ignores Pause is cut, the session and its other connections live',
  async () => {
    const { ws, session } = await (await hub(clean)).agent();
    const agent = peer(ws, { fragment: 1 << 20 });
    const most = watch(session.stats);
    const chunk = Buffer.alloc(32 * KIB);
    const flooding = new Set<bigint>();
    let stopped = false;
    clean.after(() => {
      stopped = true;
    });
    const flood = () => {
      if (stopped || ws.readyState !== ws.OPEN) return;
      for (const id of flooding) if (ws.bufferedAmount < MIB) agent.send(id, DATA, chunk);
      setImmediate(flood);
    };
    agent.onFrame(({ id, type, payload }) => {
      if (type === CONNECT && payload.toString() === 'tcp/flood:1') flooding.add(id);
      else if (type === ERROR) flooding.delete(id);
      else if (type === DATA) agent.send(id, DATA, payload);
    });
    flood();

    const answers = session.connect('echo', 1);
    for (let round = 1; round <= times(3, 30); round++) {
      const stalled = session.connect('flood', 1);
      // The flood keeps this thread busy: its processor time is the time that passes, without what the rest of the machine takes.
      let sinceFull: (() => number) | undefined;
      const timer = setInterval(() => {
        if (session.stats().buffered >= (LIMITS.connectionBytes * 3) / 4) sinceFull ??= threadTime();
      }, 1);
      clean.after(() => clearInterval(timer));
      const error = await failure(stalled);
      clearInterval(timer);
      expect(error.message).toContain('the reader of this connection stood still');
      expect(sinceFull?.()).toBeLessThan(1_500);
      expect(most()).toBeLessThanOrEqual(LIMITS.underwayBytes);
      answers.write(`round ${round}`);
      expect((await take(answers, `round ${round}`.length)).toString()).toBe(`round ${round}`);
    }
    expect(agent.frames.some(({ type }) => type === PAUSE)).toBe(true);
    expect([session.connections(), session.stats().buffered]).toEqual([1, 0]);
  },
  limit(60_000, 300_000),
);

test(
  'R38: a peer of the v0.1 era, without Pause, moves bulk data to a reader that is merely slow',
  async () => {
    const { ws, session } = await (await hub(clean)).agent();
    const agent = peerAgent(ws, { knowsPause: false, signal: clean.signal() });
    const total = times(16, 128) * MIB;
    const bulk = await target(clean, (socket) => void socket.end(Buffer.alloc(total)));
    const most = watch(session.stats);
    for (const round of ['first', 'second']) {
      const slow = session.connect('127.0.0.1', bulk.port);
      let got = 0;
      for await (const chunk of slow as AsyncIterable<Buffer>) {
        got += chunk.length;
        // About 16 MB/s, slower than the peer by far.
        await sleep(2);
      }
      expect([round, got]).toEqual([round, total]);
      expect(session.stats()).toEqual({ buffered: 0, ignoresPause: true });
    }
    // From the second connection on it is known what the peer is like.
    expect(most()).toBeLessThanOrEqual(LIMITS.underwayBytes);
    const third = session.connect('127.0.0.1', bulk.port);
    const mostOfThird = watch(session.stats);
    await take(third, MIB);
    await failure(third);
    expect(mostOfThird()).toBeLessThanOrEqual(LIMITS.connectionBytes);
    await vi.waitFor(() => expect([session.connections(), agent.open()]).toEqual([0, 0]));
  },
  limit(60_000, 600_000),
);

test('R38: all connections of a session together hold no more than the limit', async () => {
  const sessionBytes = 8 * MIB;
  const { ws, session } = await (await hub(clean, { sessionBytes })).agent();
  const agent = peer(ws, { fragment: 1 << 20 });
  const most = watch(session.stats);
  const streams = Array.from({ length: 40 }, () => session.connect('a', 1));
  await agent.frame(({ id }) => id === 41n);
  // Each stays below its own limit, as a peer would that pauses late.
  for (let i = 0; i < 28; i++) for (let id = 2n; id <= 41n; id++) agent.send(id, DATA, Buffer.alloc(32 * KIB));
  await vi.waitFor(() => expect(streams.filter(({ destroyed }) => destroyed).length).toBeGreaterThan(0), { timeout: 10_000 });
  await vi.waitFor(() => expect(session.stats().buffered).toBeLessThan(sessionBytes));
  expect(most()).toBeLessThanOrEqual(sessionBytes);
  agent.send(2n, ERROR, 'EOF');
  expect(agent.ws.readyState).toBe(agent.ws.OPEN);
});

test('the writer waits while the peer has paused, and no longer', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peer(ws, { fragment: 1 << 20 });
  const stream = session.connect('a', 1);
  const other = session.connect('b', 1);
  const received = () =>
    agent.frames.filter(({ id, type }) => id === 2n && type === DATA).reduce((sum, { payload }) => sum + payload.length, 0);
  agent.send(2n, PAUSE);
  agent.send(3n, DATA, 'x');
  await take(other, 1);
  let written = false;
  stream.write(Buffer.alloc(MIB), () => {
    written = true;
  });
  other.write('passes');
  await agent.frame(({ id, type }) => id === 3n && type === DATA);
  expect([received(), written]).toEqual([0, false]);
  agent.send(2n, RESUME);
  await vi.waitFor(() => expect([received(), written]).toEqual([MIB, true]));
  expect(Math.max(...agent.frames.map(({ payload }) => payload.length))).toBeLessThanOrEqual(32 * KIB);
});

test('a target that is slow to read pauses the writer through the agent', async () => {
  const { ws, session } = await (await hub(clean)).agent();
  const agent = peerAgent(ws, { signal: clean.signal() });
  const total = 48 * MIB;
  let got = 0;
  const { port } = await target(clean, (socket) => {
    socket.pause();
    socket.on('data', (chunk) => {
      got += chunk.length;
    });
    void vi.waitFor(() => expect(agent.pausesSent()).toBeGreaterThan(0), { timeout: 20_000 }).then(() => socket.resume());
  });
  const stream = session.connect('127.0.0.1', port);
  for (let i = 0; i < total / MIB; i++) stream.write(Buffer.alloc(MIB));
  await vi.waitFor(() => expect(got).toBe(total), { timeout: 30_000 });
  expect(agent.pausesSent()).toBeGreaterThan(0);
});
