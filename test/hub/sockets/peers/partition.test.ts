import { readdirSync, readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { expect, test, vi } from 'vitest';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';
import { ask, putSlice, removeSlice, startReplica, target, upgrade } from './replicas.ts';
import { stallingProxy } from './stalling-proxy.ts';

const undo = cleanUp();
const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 20_000, interval: 5 });

/** Two replicas; the first reaches the second through a proxy. */
async function pair(options: Parameters<typeof startReplica>[2] | undefined = undefined) {
  const api = await kubeApi();
  undo.after(() => api.close());
  const settings = options ?? { signal: undo.signal() };
  const one = await startReplica(api, 'hub-1', settings);
  undo.after(() => one.peers.close(0));
  const two = await startReplica(api, 'hub-2', settings);
  undo.after(() => two.peers.close(0));
  const proxy = await stallingProxy(two.peers.port);
  undo.after(() => proxy.close());
  putSlice(api, 'hub-1', one.peers.port);
  putSlice(api, 'hub-2', proxy.port);
  const child = target('child');
  two.tunnels.set('c1', child);
  await eventually(() => expect(one.peers.find('c1')).toBeDefined());
  return { api, one, two, proxy, child };
}

const failure = async (asked: Promise<unknown>) => {
  const began = performance.now();
  const error = await asked.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return { error, ms: performance.now() - began };
};

test('R47: with the network between replicas cut without FIN, requests get 503 within 2 s, and the way is back by itself', async () => {
  const { one, proxy, child } = await pair();
  const upstream = one.peers.find('c1');
  if (!upstream) throw new Error('no way');
  const before = ask(upstream, { path: '/hang' });
  await eventually(() => expect(child.asked).toHaveLength(1));
  proxy.stall();
  const both = await Promise.all([failure(before), failure(ask(upstream, {}))]);
  for (const { error, ms } of both) {
    expect(error).toMatchObject({ name: 'TargetError', code: 503, message: expect.stringContaining('hub-2') });
    expect(ms).toBeLessThan(2_000);
  }
  expect(one.peers.find('c1')).toBeUndefined();
  expect(one.peers.connection('c1')).toMatchObject({ connected: false });
  const { error, ms } = await failure(ask(upstream, {}));
  expect(error).toMatchObject({ code: 503 });
  // The silence is not waited for again.
  expect(ms).toBeLessThan(1_000);
  expect(one.peers.replicas()).toBe(2);
  proxy.heal();
  await eventually(() => expect(one.peers.find('c1')).toBeDefined());
  expect((await ask(upstream, {})).body.toString()).toBe('child');
  expect(await one.registry.metrics()).toContain('fairlead_hub_peer_link_failures_total{reason="silent"} 1');
});

test('R40: when the replica with the tunnel dies, requests in flight fail at once', async () => {
  const { one, proxy, child } = await pair();
  const upstream = one.peers.find('c1');
  if (!upstream) throw new Error('no way');
  const inFlight = ['/hang', '/stream'].map((path) => failure(ask(upstream, { path })));
  await eventually(() => expect(child.asked).toHaveLength(2));
  const began = performance.now();
  proxy.cut();
  for (const { error } of await Promise.all(inFlight)) expect(error).toMatchObject({ name: 'TargetError', code: 503 });
  expect(performance.now() - began).toBeLessThan(1_000);
});

test('a stream that had begun before a cut ends with an error, at both ends', async () => {
  const { one, proxy, child } = await pair({ signal: undo.signal(), timing: { goneMs: 2_000, silentMs: 500, pingMs: 100 } });
  const upstream = one.peers.find('c1');
  if (!upstream) throw new Error('no way');
  const stream = ask(upstream, { path: '/stream' });
  const connection = await upgrade(upstream, '/exec');
  connection.on('error', () => undefined);
  await eventually(() => expect(child.streams).toHaveLength(1));
  proxy.stall();
  await expect(stream).rejects.toMatchObject({ code: 503 });
  await eventually(() => expect(connection.destroyed).toBe(true));
  await eventually(() => expect(child.asked[0]?.aborted).toBe(true));
});

test('a peer that only stood still for a while keeps the streams that it has', async () => {
  const { one, two, proxy, child } = await pair();
  const upstream = one.peers.find('c1');
  if (!upstream) throw new Error('no way');
  const connection = await upgrade(upstream, '/exec');
  proxy.hold();
  await eventually(() => expect(one.peers.find('c1')).toBeUndefined());
  await expect(ask(upstream, {})).rejects.toMatchObject({ code: 503 });
  proxy.release();
  await eventually(() => expect(one.peers.find('c1')).toBeDefined());
  connection.end('still here');
  expect(await text(connection)).toBe('still here');
  expect((await ask(upstream, {})).body.toString()).toBe('child');
  expect(child.asked).toHaveLength(2);
  expect(two.errors).toEqual([]);
});

test('a replica that was taken out of the Service keeps its requests, and is not called again', async () => {
  const { api, one, two, child } = await pair();
  const upstream = one.peers.find('c1');
  if (!upstream) throw new Error('no way');
  const connection = await upgrade(upstream, '/exec');
  removeSlice(api, 'hub-2');
  await eventually(() => expect(one.peers.replicas()).toBe(1));
  connection.end('hello');
  expect(await text(connection)).toBe('hello');
  expect((await ask(upstream, {})).body.toString()).toBe('child');
  await two.peers.close(0);
  await eventually(() => expect(one.peers.find('c1')).toBeUndefined());
  expect(child.asked).toHaveLength(2);
});

test('nothing stays behind: after closing there are as many timers, sockets and servers as before', async () => {
  const counts = () => {
    const open = process.getActiveResourcesInfo().filter((kind) => /Timeout|TLS|TCP|Pipe/.test(kind));
    return open.length;
  };
  const before = counts();
  const api = await kubeApi();
  const all = await Promise.all(['hub-1', 'hub-2', 'hub-3'].map((name) => startReplica(api, name, { signal: undo.signal() })));
  for (const [at, { peers }] of all.entries()) putSlice(api, `hub-${at}`, peers.port);
  const [one, two] = all;
  two?.tunnels.set('c1', target('child'));
  await eventually(() => expect(one?.peers.find('c1')).toBeDefined());
  const upstream = one?.peers.find('c1');
  if (!upstream) throw new Error('no way');
  const connection = await upgrade(upstream, '/exec');
  connection.on('error', () => undefined);
  for (let i = 0; i < 500; i++) await ask(upstream, {});
  expect(counts()).toBeGreaterThan(before);
  await Promise.all(all.map(({ peers }) => peers.close(0)));
  await api.close();
  api.client.close();
  await eventually(() => expect(counts()).toBeLessThanOrEqual(before));
});

test('nothing stays behind: the ends of a connection that was cut without FIN are closed, also one that was already closing', async () => {
  const { one, two, proxy } = await pair({ signal: undo.signal(), timing: { goneMs: 3_000, silentMs: 400, pingMs: 100, connectMs: 500 } });
  await eventually(() => expect(one.peers.check()).toBeUndefined());
  // Ends of the replicas on the connections through the proxy; an end without an inode is the kernel's alone.
  const portOf = (address = '') => Number.parseInt(address.split(':')[1] ?? '', 16);
  const open = () =>
    readFileSync('/proc/self/net/tcp', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , , state, , , , , , inode]) => state !== '0A' && inode !== '0')
      .filter(([, local, remote]) => portOf(remote) === proxy.port || portOf(local) === two.peers.port).length;
  await eventually(() => expect(open()).toBe(2));
  for (let round = 0; round < 3; round++) {
    const upstream = one.peers.find('c1');
    if (!upstream) throw new Error('no way');
    // In one round a stream stays for as long as the connection does; in the others the connection closes at once when it is replaced.
    const stream = ask(upstream, { path: round === 0 ? '/stream' : '/hang' });
    stream.catch(() => undefined);
    proxy.stall();
    await eventually(() => expect(one.peers.find('c1')).toBeUndefined());
    proxy.heal();
    await eventually(() => expect(one.peers.find('c1')).toBeDefined());
    await expect(stream).rejects.toMatchObject({ code: 503 });
  }
  await eventually(() => expect(open()).toBe(2));
  expect(two.errors).toEqual([]);
});

test('nothing stays behind: descriptors after a hundred streams on connections that were cut are as many as before', async () => {
  const open = () => readdirSync('/proc/self/fd').length;
  const { one, two, proxy } = await pair();
  const upstream = one.peers.find('c1');
  if (!upstream) throw new Error('no way');
  await ask(upstream, {});
  await eventually(() => expect(one.peers.check()).toBeUndefined());
  const before = open();
  for (let round = 0; round < 10; round++) {
    const connections = await Promise.all(Array.from({ length: 10 }, () => upgrade(upstream, '/exec')));
    for (const connection of connections) connection.on('error', () => undefined).destroy();
    proxy.cut();
    await eventually(() => expect(one.peers.find('c1')).toBeUndefined());
    await eventually(() => expect(one.peers.find('c1')).toBeDefined());
  }
  await eventually(() => expect(open()).toBeLessThanOrEqual(before + 2));
  expect(two.errors).toEqual([]);
});
