import { type Duplex, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, test, vi } from 'vitest';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';
import { type Asked, ask, putSlice, type Replica, startReplica, target, upgrade } from './replicas.ts';

const undo = cleanUp();
const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 5 });

async function replicas(...names: string[]): Promise<Replica[]> {
  const api = await kubeApi();
  undo.after(() => api.close());
  const started: Replica[] = [];
  for (const name of names) {
    const replica = await startReplica(api, name, { signal: undo.signal() });
    undo.after(() => replica.peers.close(0));
    putSlice(api, name, replica.peers.port);
    started.push(replica);
  }
  await eventually(() => {
    for (const { peers } of started) expect([peers.check(), peers.replicas()]).toEqual([undefined, names.length]);
  });
  await eventually(async () => {
    for (const { registry } of started) expect(await registry.metrics()).toContain(`fairlead_hub_peers_connected ${names.length - 1}`);
  });
  return started;
}

async function pair() {
  const [one, two] = await replicas('hub-1', 'hub-2');
  if (!one || !two) throw new Error('no replicas');
  return { one, two };
}

/** The way from a replica to a cluster, as soon as there is one. */
const way = (replica: Replica, id: string) =>
  eventually(() => {
    const found = replica.peers.find(id);
    if (!found) throw new Error('no way');
    return found;
  });

test('R47: a request that arrives at another replica is served by the one with the tunnel, unchanged', async () => {
  const { one, two } = await pair();
  const child = target('child');
  two.tunnels.set('c1', child);
  const upstream = await way(one, 'c1');
  const headers = ['fairlead-user', 'anna', 'fairlead-group', 'a,b', 'x-twice', '1', 'x-twice', '2'];
  const got = await ask(upstream, {
    path: '/a%2Fb//../c?x=%20&y',
    authority: 'example.test:8443',
    scheme: 'http',
    method: 'PURGE',
    headers,
  });
  expect([got.code, got.body.toString()]).toEqual([200, 'child']);
  expect(got.headers.join(' ')).toContain('x-twice a x-twice b');
  const { head } = child.asked[0] as Asked;
  expect(head).toEqual({ method: 'PURGE', scheme: 'http', authority: 'example.test:8443', path: '/a%2Fb//../c?x=%20&y', headers });
  expect(await one.registry.metrics()).toContain('fairlead_hub_peer_requests_total{result="answered"} 1');
});

test('bodies stream both ways with backpressure, and trailers arrive', async () => {
  const { one, two } = await pair();
  two.tunnels.set('c1', target('child'));
  const upstream = await way(one, 'c1');
  const whole = Buffer.alloc(8 << 20, 'fairlead');
  const body = Readable.from(
    (function* () {
      for (let at = 0; at < whole.length; at += 65_536) yield whole.subarray(at, at + 65_536);
    })(),
    { objectMode: false },
  );
  const got = await ask(upstream, { method: 'POST', path: '/echo', headers: ['trailer', 'x-sum'], body, bodyTrailers: ['x-sum', '42'] });
  expect(got.body.equals(whole)).toBe(true);
  expect(got.trailers).toEqual(['x-sum', '42']);
});

test('an answer that is streamed arrives piece by piece, and a caller who goes away ends it at the owner', async () => {
  const { one, two } = await pair();
  const child = target('child');
  two.tunnels.set('c1', child);
  const seen: string[] = [];
  let abort: () => void = () => undefined;
  const asked = ask(
    await way(one, 'c1'),
    { path: '/stream' },
    {
      onData: (chunk) => seen.push(chunk.toString()),
      begun: (exchange) => {
        abort = exchange.abort;
      },
    },
  );
  asked.catch(() => undefined);
  await eventually(() => expect(child.streams).toHaveLength(1));
  for (const word of ['one', 'two', 'three']) {
    child.streams[0]?.write(word);
    await eventually(() => expect(seen.at(-1)).toBe(word));
  }
  abort();
  await eventually(() => expect(child.asked[0]?.aborted).toBe(true));
});

test('a caller who goes away before the answer ends the exchange at the owner', async () => {
  const { one, two } = await pair();
  const child = target('child');
  two.tunnels.set('c1', child);
  let abort: () => void = () => undefined;
  ask(
    await way(one, 'c1'),
    { path: '/hang' },
    {
      begun: (exchange) => {
        abort = exchange.abort;
      },
    },
  ).catch(() => undefined);
  await eventually(() => expect(child.asked).toHaveLength(1));
  abort();
  await eventually(() => expect(child.asked[0]?.aborted).toBe(true));
  expect(await one.registry.metrics()).toContain('result="cancelled"} 1');
});

test('an upgrade carries both directions, and each of them ends for itself', async () => {
  const { one, two } = await pair();
  const child = target('child');
  const heard = Promise.withResolvers<string>();
  child.onUpgrade = (connection) => {
    connection.write('welcome');
    text(connection).then((said) => {
      heard.resolve(said);
      connection.end(' and bye');
    }, heard.reject);
  };
  two.tunnels.set('c1', child);
  const connection = await upgrade(await way(one, 'c1'), '/exec', 'SPDY/3.1');
  connection.end('hello');
  expect(await heard.promise).toBe('hello');
  expect(await text(connection)).toBe('welcome and bye');
  expect(child.asked[0]?.protocol).toBe('SPDY/3.1');
  expect(child.asked[0]?.head).toEqual({ method: 'POST', scheme: 'https', authority: 'direct', path: '/exec', headers: [] });
});

test('a connection that breaks on one side of an upgrade is broken on the other', async () => {
  const { one, two } = await pair();
  const child = target('child');
  const ends: Duplex[] = [];
  child.onUpgrade = (_connection, near) => void ends.push(near);
  two.tunnels.set('c1', child);
  const connection = await upgrade(await way(one, 'c1'), '/exec');
  connection.on('error', () => undefined);
  connection.destroy();
  await eventually(() => expect(ends[0]?.destroyed).toBe(true));
  const other = await upgrade(await way(one, 'c1'), '/exec');
  other.on('error', () => undefined);
  ends[1]?.destroy(new Error('broken'));
  await eventually(() => expect(other.destroyed).toBe(true));
});

test('tunnels appear and disappear within 100 ms, and what is known of them travels', async () => {
  const { one, two } = await pair();
  const told: string[] = [];
  one.peers.onChange((id) => told.push(id), undo.signal());
  const times: number[] = [];
  for (let round = 0; round < 10; round++) {
    for (const appear of [true, false]) {
      const began = performance.now();
      if (appear) two.tunnels.set(`c${round}`, target('child'), { agentVersion: '9.9', roundTripMs: 7 });
      else two.tunnels.remove(`c${round}`);
      await vi.waitFor(() => expect(one.peers.find(`c${round}`) !== undefined).toBe(appear), { timeout: 10_000, interval: 1 });
      times.push(performance.now() - began);
    }
  }
  // The median, because the machine may do other work.
  expect(times.sort((a, b) => a - b)[10]).toBeLessThan(100);
  expect(new Set(told)).toEqual(new Set(Array.from({ length: 10 }, (_, round) => `c${round}`)));
  const since = new Date(Date.now() - 60_000);
  two.tunnels.set('c1', target('child'), { agentVersion: '9.9', roundTripMs: 7, since });
  await way(one, 'c1');
  expect(one.peers.connection('c1')).toMatchObject({
    connected: true,
    since,
    agentVersion: '9.9',
    roundTripMs: 7,
    protocol: 'fairlead',
    tunnels: 1,
  });
  two.tunnels.remove('c1');
  await eventually(() => expect(one.peers.connection('c1')).toMatchObject({ connected: false, agentVersion: '9.9', tunnels: 0 }));
  expect(one.peers.connection('never-seen')).toBeUndefined();
});

test('with two owners the one that drains gets nothing; a tunnel that has just moved is looked for at the other', async () => {
  const [one, two, three] = await replicas('hub-1', 'hub-2', 'hub-3');
  if (!one || !two || !three) throw new Error('no replicas');
  const [at2, at3] = [target('at-2'), target('at-3')];
  two.tunnels.set('c1', at2, { draining: true });
  three.tunnels.set('c1', at3);
  await eventually(() => expect(one.peers.connection('c1')?.protocol).toBe('fairlead'));
  const upstream = await eventually(() => {
    const found = one.peers.find('c1');
    if (!found || one.peers.connection('c1') === undefined) throw new Error('no way');
    return found;
  });
  await eventually(async () => expect((await ask(upstream, {})).body.toString()).toBe('at-3'));
  for (let i = 0; i < 20; i++) expect((await ask(upstream, {})).body.toString()).toBe('at-3');
  three.tunnels.forget('c1');
  expect((await ask(upstream, {})).body.toString()).toBe('at-2');
  expect(await text(await upgradeAndEnd(upstream))).toBe('hello');
  two.tunnels.forget('c1');
  await expect(ask(upstream, {})).rejects.toMatchObject({ code: 503 });
  const refused = await ask(upstream, { method: 'POST', body: Readable.from(['x'], { objectMode: false }) });
  expect([refused.code, JSON.parse(refused.body.toString())]).toMatchObject([503, { kind: 'Status', code: 503 }]);
});

test('R46: a request for a tunnel whose agent has just gone elsewhere waits to learn where; one for an agent that was lost fails at once', async () => {
  const [one, two, three] = await replicas('hub-1', 'hub-2', 'hub-3');
  if (!one || !two || !three) throw new Error('no replicas');
  two.tunnels.set('c1', target('at-2'));
  const upstream = await eventually(() => {
    const found = one.peers.find('c1');
    if (!found) throw new Error('no way');
    return found;
  });
  two.tunnels.remove('c1', 'left');
  await eventually(() => expect(one.peers.find('c1')).toBeUndefined());
  expect(one.peers.lastEnd('c1')).toMatchObject({ left: true });
  const waiting = ask(upstream, {});
  // Longer than replicas take to tell each other.
  await new Promise((resolve) => setTimeout(resolve, 200));
  three.tunnels.set('c1', target('at-3'));
  expect((await waiting).body.toString()).toBe('at-3');
  three.tunnels.remove('c1');
  await eventually(() => expect(one.peers.lastEnd('c1')).toMatchObject({ left: false }));
  const began = performance.now();
  await expect(ask(upstream, {})).rejects.toMatchObject({ code: 503, message: expect.stringContaining('its agent is away') });
  // Nothing was waited for: an agent that has left would have three seconds.
  expect(performance.now() - began).toBeLessThan(2_500);
});

async function upgradeAndEnd(upstream: Parameters<typeof upgrade>[0]) {
  const connection = await upgrade(upstream, '/exec');
  connection.end('hello');
  return connection;
}

test('a request never goes on from the replica that it was forwarded to, and a cluster that the caller names counts for nothing', async () => {
  const [one, two, three] = await replicas('hub-1', 'hub-2', 'hub-3');
  if (!one || !two || !three) throw new Error('no replicas');
  const [c1, c2] = [target('c1'), target('c2')];
  two.tunnels.set('c1', c1);
  three.tunnels.set('c2', c2);
  await way(one, 'c2');
  const upstream = await way(one, 'c1');
  const got = await ask(upstream, { path: '/tunnels', authority: 'hub', headers: ['Fairlead-Cluster', 'c2', 'fairlead-user', 'anna'] });
  expect(got.body.toString()).toBe('c1');
  expect(c1.asked[0]?.head.headers).toEqual(['fairlead-user', 'anna']);
  // Two knows of three's tunnel, but a peer's request is for its own ones only.
  await way(two, 'c2');
  two.tunnels.forget('c1');
  await expect(ask(upstream, {})).rejects.toMatchObject({ code: 503 });
  expect(c2.asked).toEqual([]);
});

test('R46: a replica that closes lets requests end, and those after it fail with 503', async () => {
  const { one, two } = await pair();
  const child = target('child');
  two.tunnels.set('c1', child);
  const upstream = await way(one, 'c1');
  const asked = ask(upstream, { path: '/stream' });
  await eventually(() => expect(child.streams).toHaveLength(1));
  const closed = two.peers.close(30_000);
  await eventually(() => expect(one.peers.find('c1')).toBeUndefined());
  await expect(ask(upstream, {})).rejects.toMatchObject({ code: 503 });
  child.streams[0]?.end('whole');
  expect((await asked).body.toString()).toBe('whole');
  await closed;
  await eventually(() => expect(one.news.join('\n')).toContain('has closed the connection'));
  expect(await one.registry.metrics()).not.toContain('reason="lost"');
});
