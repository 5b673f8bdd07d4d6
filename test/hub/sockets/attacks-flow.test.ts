import { randomInt } from 'node:crypto';
import { readdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Agent, request } from 'node:https';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { STREAM_WINDOW } from '../../../src/tunnel/protocol.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { limit, longRun, times } from '../../support/counts.ts';
import { type AgentMachine, agentMachine, asUser, openAttach, type SocketHub, socketHub, user } from '../../support/socket-hub.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { framePeer } from './frame-peer.ts';
import { ask, asking, direct, echoUpgrade, many, SPDY, statusOf, tunnelsOf } from './session-tools.ts';

const clean = cleanUp();
async function start(
  serve: (request: IncomingMessage, response: ServerResponse) => void,
  options: Parameters<typeof socketHub>[0] = {},
  onUpgrade: (request: IncomingMessage, socket: Socket, head: Buffer) => void = echoUpgrade,
): Promise<{ hub: SocketHub; id: string; machine: AgentMachine }> {
  const hub = await socketHub(options);
  clean.after(() => hub.close());
  const id = hub.addCluster();
  const machine = await agentMachine(hub, serve, onUpgrade);
  clean.after(() => machine.close());
  await machine.attach(id);
  await tunnelsOf(hub, id, 1);
  return { hub, id, machine };
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
/** Bytes that this process (hub, agent, child and clients) holds. */
async function held(): Promise<number> {
  for (let round = 0; round < 3; round++) {
    collect();
    await sleep(20);
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
const descriptors = () => readdirSync('/proc/self/fd').length;
const connections = (machine: AgentMachine) =>
  new Promise<number>((resolve) => machine.child.getConnections((_error, count) => resolve(count)));

const CHUNK = Buffer.alloc(65_536, 'x');
/** Writes without end, as fast as the other side takes it. */
function pour(into: NodeJS.WritableStream, count: (bytes: number) => void): void {
  const more = () => {
    let room = true;
    while (room && into.writable) {
      room = into.write(CHUNK);
      count(CHUNK.length);
    }
  };
  into.on('drain', more);
  into.on('error', () => undefined);
  more();
}

/** Requests that begin and then take nothing, and give all that they are let. */
function stalled(hub: SocketHub, path: string, upload: boolean): { sent(): number; begun: Promise<void> } {
  let bytes = 0;
  const asked = request({ host: '127.0.0.1', port: hub.port, ca: hub.ca, agent: false, path, method: upload ? 'POST' : 'GET' });
  asked.on('error', () => undefined);
  clean.after(() => asked.destroy());
  // Nobody reads the answer.
  const begun = new Promise<void>((resolve) => {
    asked.once('response', () => resolve());
    if (upload) asked.once('socket', () => resolve());
  });
  if (upload)
    pour(asked, (more) => {
      bytes += more;
    });
  else asked.end();
  return { sent: () => bytes, begun };
}

/** Waits until a count has not grown for a while. */
async function still(count: () => number): Promise<void> {
  let last = -1;
  let since = performance.now();
  await waitUntil(
    () => {
      if (count() !== last) {
        last = count();
        since = performance.now();
      }
      return last > 0 && performance.now() - since > 400;
    },
    'the flow to stop',
    30_000,
  );
}

test.each(['download', 'upload'] as const)(
  'R38: %s: who stops reading has no more than its window in hub and agent, and does not stop others',
  async (way) => {
    let poured = 0;
    const { hub, id, machine } = await start((got, response) => {
      if (got.url === '/pour')
        pour(response, (more) => {
          poured += more;
        });
      else if (got.url === '/count') got.on('data', () => undefined).on('end', () => response.end('read'));
      else if (got.url !== '/sink') response.end('small');
    });
    const small = async () => {
      const began = performance.now();
      expect((await ask(hub, { path: direct(id, '/small') })).body).toBe('small');
      return performance.now() - began;
    };
    // The slowest of a hundred; where tests run beside others, the one in the middle.
    const slow = async () => {
      const took: number[] = [];
      await many(times(30, 500), 2, async () => void took.push(await small()));
      return took.sort((a, b) => a - b)[Math.floor(took.length * (longRun ? 0.99 : 0.5))] ?? 0;
    };
    await slow();
    const [before, unloaded] = [await held(), await slow()];
    // More than the window of the session holds: 32 MiB.
    const count = times(40, 100);
    const all = Array.from({ length: count }, () => stalled(hub, direct(id, way === 'download' ? '/pour' : '/sink'), way === 'upload'));
    await Promise.all(all.map(({ begun }) => begun));
    await still(() => poured + all.reduce((sum, { sent }) => sum + sent(), 0));
    const perStream = ((await held()) - before) / count;
    // One window in the hub or the agent's queue, both as much; the rest are the buffers of four connections and their TLS.
    expect(perStream).toBeLessThan(2 * STREAM_WINDOW + 524_288);
    expect(machine.streams.size).toBe(count);
    for (const stream of machine.streams) {
      // A chunk more may have come in or gone out before the other side was told.
      expect(stream.writableLength).toBeLessThanOrEqual(STREAM_WINDOW + 65_536);
      expect(stream.readableLength).toBeLessThanOrEqual(STREAM_WINDOW + 65_536);
    }
    for (const response of hub.responses) expect(response.writableLength).toBeLessThanOrEqual(STREAM_WINDOW);
    const loaded = await slow();
    // A machine that does other work: below the floor a factor says nothing.
    expect(loaded).toBeLessThan(Math.max(8 * unloaded, 500));
    // Others get large things through as well.
    const body = Buffer.alloc(4 << 20);
    expect((await ask(hub, { method: 'PUT', path: direct(id, '/count'), body })).body).toBe('read');
  },
  limit(60_000, 180_000),
);

test('R38: an upgraded connection that nobody reads holds no more than its window, in both directions', async () => {
  let poured = 0;
  const { hub, id, machine } = await start(
    (_got, response) => void response.end('small'),
    {},
    (_got, socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n');
      // It reads nothing, and writes without end.
      pour(socket, (more) => {
        poured += more;
      });
    },
  );
  await ask(hub, { path: direct(id, '/small') });
  const before = await held();
  const count = times(10, 50);
  for (let at = 0; at < count; at++) {
    const sent = request({
      host: '127.0.0.1',
      port: hub.port,
      ca: hub.ca,
      agent: false,
      method: 'POST',
      path: direct(id, '/exec'),
      headers: SPDY,
    });
    sent.on('error', () => undefined);
    sent.on('upgrade', (_response, socket: Socket) => {
      clean.after(() => socket.destroy());
      pour(socket, (more) => {
        poured += more;
      });
    });
    sent.end();
  }
  await waitUntil(() => machine.streams.size === count, 'the connections');
  await still(() => poured);
  // Two directions.
  expect(((await held()) - before) / count).toBeLessThan(2 * (2 * STREAM_WINDOW + 524_288));
  expect((await ask(hub, { path: direct(id, '/small') })).body).toBe('small');
});

test('R38: an agent that ignores the window is cut within 1 s', async () => {
  const hub = await socketHub();
  clean.after(() => hub.close());
  const id = hub.addCluster();
  const peer = framePeer(await openAttach(hub, id));
  clean.after(() => peer.socket.destroy());
  await tunnelsOf(hub, id, 1);
  const { begun } = stalled(hub, direct(id, '/x'), false);
  await waitUntil(() => peer.requests.length === 1, 'the request');
  peer.answer(1);
  await begun;
  const before = await held();
  const at = performance.now();
  peer.data(1, 16 * STREAM_WINDOW);
  await waitUntil(() => peer.resets.includes(1) || peer.socket.destroyed, 'the stream to be cut');
  expect(performance.now() - at).toBeLessThan(5_000);
  await waitUntil(() => hub.responses.size === 0, 'the answer to be cut too');
  expect((await held()) - before).toBeLessThan(4 * STREAM_WINDOW);
});

test(
  'R39: requests that are given up at any time leave no stream, no descriptor and no memory, at either end',
  async () => {
    const open = new Set<ServerResponse>();
    const upgraded = new Set<Socket>();
    const { hub, id, machine } = await start(
      (got, response) => {
        open.add(response);
        response.once('close', () => open.delete(response));
        if (got.url === '/pour') pour(response, () => undefined);
        else if (got.url === '/watch') response.write('{}\n');
        else if (got.url === '/sink') got.resume();
        else if (got.url !== '/silent') response.end('small');
      },
      {},
      (got, socket) => {
        upgraded.add(socket);
        socket.once('close', () => upgraded.delete(socket));
        echoUpgrade(got, socket);
      },
    );
    const kinds = ['/silent', '/watch', '/pour', '/sink', '/small', '/exec'] as const;
    const round = (count: number) =>
      many(count, 16, async (index) => {
        const kind = kinds[index % kinds.length];
        const asked = asking(hub, {
          path: direct(id, kind ?? ''),
          ...(kind === '/exec' && { method: 'POST', headers: SPDY }),
          ...(kind === '/sink' && { method: 'POST', body: Buffer.alloc(3 << 20) }),
        });
        // Before the connection stands, before the head, in the middle of the body.
        const phase = randomInt(4);
        if (phase === 1) await sleep(randomInt(30));
        else if (phase === 2 && kind !== '/silent' && kind !== '/sink') await asked.head;
        else if (phase === 3) await Promise.race([asked.ended, waitUntil(() => asked.got() > 0, 'bytes', 200).catch(() => undefined)]);
        asked.cancel();
        await asked.ended;
      });
    const quiet = async () => {
      await waitUntil(() => machine.streams.size === 0, 'the streams to end', 5_000);
      await waitUntil(() => hub.responses.size === 0, 'the answers to end', 5_000);
      await waitUntil(() => open.size === 0 && upgraded.size === 0, 'the child to be rid of them', 5_000);
      // One that was given up while its caller was being made out begins, and ends, later than the others.
      for (const kind of ['request', 'upgrade'])
        await waitUntil(async () => (await hub.metric('fairlead_hub_socket_requests_open', { kind })) === 0, `${kind}s to be over`, 5_000);
      // Connections to the child are kept for the next requests: their two ends are here.
      return { files: descriptors() - 2 * (await connections(machine)), memory: await held() };
    };
    await round(times(60, 200));
    const before = await quiet();
    await round(times(240, 1_000));
    const after = await quiet();
    expect(after.files - before.files).toBeLessThanOrEqual(8);
    expect(after.memory - before.memory).toBeLessThan(5 << 20);
    expect((await ask(hub, { path: direct(id, '/small') })).body).toBe('small');
  },
  limit(60_000, 300_000),
);

test(
  'R49: one user, or one cluster, has so many requests open and no more: 429 with Retry-After, and others are served',
  async () => {
    const limits = { perUser: times(20, 500), perCluster: times(30, 700) };
    const { hub, id, machine } = await start(
      (got, response) => {
        if (got.url === '/watch') response.write('{}\n');
        else response.end('small');
      },
      { limits },
    );
    const other = hub.addCluster();
    await machine.attach(other);
    await tunnelsOf(hub, other, 1);
    const small = async (name: string, cluster = id) =>
      (await ask(hub, { path: direct(cluster, '/small'), headers: asUser(user(name)) })).code;
    const hold = (name: string, count: number, upgrade = false) =>
      Array.from({ length: count }, () =>
        asking(
          hub,
          upgrade
            ? { method: 'POST', path: direct(id, '/exec'), headers: { ...SPDY, ...asUser(user(name)) } }
            : { path: direct(id, '/watch'), headers: asUser(user(name)) },
        ),
      );
    const half = limits.perUser / 2;
    const flood = [...hold('mallory', half), ...hold('mallory', half, true)];
    await waitUntil(() => machine.streams.size === limits.perUser, 'all of them to be open', 30_000);

    // Everything more is refused before it touches the tunnel, in any form, also where that user has nothing open.
    const more = [
      ...hold('mallory', times(40, 2_000)),
      ...hold('mallory', 5, true),
      asking(hub, { path: direct(other, '/small'), headers: asUser(user('mallory')) }),
    ];
    for (const { ended } of more) {
      const end = await ended;
      expect(end.code).toBe(429);
      expect(Number(end.headers['retry-after'])).toBeGreaterThan(0);
      expect(statusOf(end)).toMatchObject({ kind: 'Status', code: 429, reason: 'TooManyRequests' });
    }
    expect(machine.streams.size).toBe(limits.perUser);
    const began = performance.now();
    expect([await small('jane'), await small('jane', other)]).toEqual([200, 200]);
    expect(performance.now() - began).toBeLessThan(5_000);

    // The cluster's limit: the other one is served.
    const crowd = hold('bob', limits.perCluster - limits.perUser);
    await waitUntil(() => machine.streams.size === limits.perCluster, 'the cluster to be full', 30_000);
    expect([await small('jane'), await small('jane', other)]).toEqual([429, 200]);

    // Who ends something may begin something.
    flood.at(0)?.cancel();
    flood.at(-1)?.cancel();
    await waitUntil(() => machine.streams.size === limits.perCluster - 2, 'two to end');
    await waitUntil(async () => (await small('jane')) === 200, 'room again');
    expect(await small('mallory')).toBe(200);
    for (const asked of [...flood, ...crowd]) asked.cancel();
    await waitUntil(() => machine.streams.size === 0, 'all to end');
    expect((await Promise.all(Array.from({ length: limits.perUser }, () => small('mallory')))).filter((code) => code !== 200)).toEqual([]);
  },
  limit(60_000, 300_000),
);

test('R49: a flood of short requests of one user does not keep another from being served', async () => {
  const { hub, id } = await start((_got, response) => response.end('small'), { limits: { perUser: 8, perCluster: 100 } });
  const keep = new Agent({ keepAlive: true, ca: hub.ca, maxSockets: 32 });
  clean.after(() => keep.destroy());
  let over = false;
  const codes = new Map<number, number>();
  const flood = many(times(600, 20_000), 32, async () => {
    const { code } = await ask(hub, { path: direct(id, '/small'), headers: asUser(user('mallory')), agent: keep });
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }).finally(() => {
    over = true;
  });
  let served = 0;
  while (!over) {
    expect((await ask(hub, { path: direct(id, '/small'), headers: asUser(user('jane')) })).code).toBe(200);
    served++;
  }
  await flood;
  expect(served).toBeGreaterThan(1);
  expect([...codes.keys()].filter((code) => code !== 200 && code !== 429)).toEqual([]);
  expect(codes.get(200)).toBeGreaterThan(0);
});
