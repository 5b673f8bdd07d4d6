import { Registry } from 'prom-client';
import { expect, test, vi } from 'vitest';
import { allConnections } from '../../../src/hub/sockets/connections.ts';
import { findUpstream } from '../../../src/hub/sockets/find-upstream.ts';
import { socketMetrics } from '../../../src/hub/sockets/metrics.ts';
import { localTunnels } from '../../../src/hub/sockets/peers/local-tunnels.ts';
import type { HubPeers } from '../../../src/hub/sockets/peers/peers.ts';
import { parseTunnelLine, tunnelLine } from '../../../src/hub/sockets/peers/tunnel-list.ts';
import { type Telling, type ToldTunnel, takeovers } from '../../../src/hub/sockets/takeover.ts';
import { type LocalTunnel, type TunnelDirectory, tunnelDirectory } from '../../../src/hub/sockets/tunnel-directory.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { kubeApi } from '../../support/kube-api.ts';
import { putSlice, startReplica, target } from './peers/replicas.ts';
import { type StallingProxy, stallingProxy } from './peers/stalling-proxy.ts';

const undo = cleanUp();
const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 5 });

/** One replica's tunnels and takeovers, without the network: `opened` does what an attach does. */
function door(name: string, directory: TunnelDirectory, peers: Telling) {
  const reported: string[] = [];
  const registry = new Registry();
  const takeover = takeovers({
    directory,
    peers,
    clusters: { takenOver: (id) => void reported.push(id) },
    metrics: socketMetrics(registry, directory),
    signal: undo.signal(),
    onError: (error) => expect.unreachable(String(error)),
  });
  function opened(id: string, instance: string, hasOthers = false) {
    const state = { ended: '', left: false };
    const tunnel: LocalTunnel = {
      ...{ id, instance, protocol: 'fairlead', agentVersion: '1', credentialID: undefined, since: new Date() },
      ...{ rank: takeover.rank(id), upstream: target(`${instance}@${name}`), roundTripMs: () => 1, heard: () => performance.now() },
      ...{ isDraining: () => state.left, isClosing: () => state.left, hasLeft: () => state.left },
      ...{ drain: () => undefined, close: () => undefined },
      destroy(reason) {
        state.ended = reason;
        directory.remove(tunnel);
      },
    };
    takeover.enter(tunnel, hasOthers);
    directory.add(tunnel);
    return {
      tunnel,
      ended: () => state.ended,
      leave() {
        state.left = true;
        directory.changed(id);
      },
    };
  }
  return { opened, reported, registry };
}

/** Replicas that tell each other over real connections, through a proxy that can cut each off. */
async function replicas(...names: string[]) {
  const api = await kubeApi();
  undo.after(() => api.close());
  const started: Array<ReturnType<typeof door> & { peers: HubPeers; directory: TunnelDirectory; proxy: StallingProxy }> = [];
  for (const name of names) {
    const directory = tunnelDirectory();
    const { peers } = await startReplica(api, name, { signal: undo.signal(), tunnels: localTunnels(directory) });
    undo.after(() => peers.close(0));
    const proxy = await stallingProxy(peers.port);
    undo.after(() => proxy.close());
    putSlice(api, name, proxy.port);
    started.push({ peers, directory, proxy, ...door(name, directory, peers) });
  }
  await eventually(() => {
    for (const { peers } of started) expect([peers.check(), peers.replicas()]).toEqual([undefined, names.length]);
  });
  return started;
}

test('R8: an agent process that opens the socket at one replica ends the tunnels of an earlier one at the others, and that is reported once', async () => {
  const [one, two, three] = await replicas('hub-1', 'hub-2', 'hub-3');
  if (!one || !two || !three) throw new Error('no replicas');
  const beside = one.opened('c2', 'first');
  const early = [one.opened('c1', 'first')];
  await eventually(() => expect(two.peers.told('c1')).toHaveLength(1));
  early.push(two.opened('c1', 'first', true));
  await eventually(() => expect([one.peers.told('c1').length, three.peers.told('c1').length]).toEqual([1, 2]));
  const late = three.opened('c1', 'second');
  await eventually(() => expect(early.map(({ ended }) => ended())).toEqual(Array(2).fill('superseded by another agent of this cluster')));
  await eventually(() => expect(one.peers.told('c1')).toHaveLength(1));
  expect([late.ended(), beside.ended()]).toEqual(['', '']);
  await eventually(() => expect([...one.reported, ...two.reported, ...three.reported]).toEqual(['c1']));
  expect(await one.registry.metrics()).toContain('fairlead_hub_tunnel_attaches_total{result="took_over"} 1');
});

test('R8: a process that takes over at both replicas, one after the other, is reported once', async () => {
  const [one, two] = await replicas('hub-1', 'hub-2');
  if (!one || !two) throw new Error('no replicas');
  const early = [one.opened('c1', 'first'), two.opened('c1', 'first', true)];
  await eventually(() => expect([one.peers.told('c1'), two.peers.told('c1')].map((told) => told.length)).toEqual([1, 1]));
  const late = [one.opened('c1', 'second'), two.opened('c1', 'second', true)];
  expect(early.map(({ ended }) => ended())).toEqual(Array(2).fill('superseded by another agent of this cluster'));
  expect(one.reported).toEqual(['c1']);
  // Longer than the second replica waits for what the first one tells.
  await new Promise((resolve) => setTimeout(resolve, 1_300));
  expect(two.reported).toEqual([]);
  expect(late.map(({ ended }) => ended())).toEqual(['', '']);
});

test('an agent process that hands over to the next keeps what it had begun, at the same replica and at others, and nothing is reported', async () => {
  const [one, two] = await replicas('hub-1', 'hub-2');
  if (!one || !two) throw new Error('no replicas');
  const early = [one.opened('c1', 'first'), two.opened('c1', 'first', true)];
  await eventually(() => expect([one.peers.told('c1'), two.peers.told('c1')].map((told) => told.length)).toEqual([1, 1]));
  for (const { leave } of early) leave();
  one.opened('c1', 'second');
  await eventually(() => expect(two.peers.told('c1')[0]).toMatchObject({ instance: 'second' }));
  two.opened('c1', 'second', true);
  await eventually(() => expect(one.peers.told('c1')[0]).toMatchObject({ instance: 'second' }));
  expect(early.map(({ ended }) => ended())).toEqual(['', '']);
  expect([...one.reported, ...two.reported]).toEqual([]);
});

/** A replica that is told what the test says. */
function alone(...told: ToldTunnel[]) {
  const directory = tunnelDirectory();
  let tell: (id: string) => void = () => undefined;
  const known = { told };
  const peers = {
    told: () => known.told,
    onChange(listener: (id: string) => void) {
      tell = listener;
    },
  };
  const hear = (...now: ToldTunnel[]) => {
    known.told = now;
    tell('c1');
  };
  return { ...door('hub', directory, peers), hear };
}
const line = (instance: string | undefined, rank: number | undefined, more: Partial<ToldTunnel> = {}): ToldTunnel => ({
  ...{ protocol: 'fairlead', instance, rank, draining: false, tookOver: false },
  ...more,
});
const HOUR = 3_600_000;

test('the clocks of replicas do not decide who is newer, when they have told each other', () => {
  // The clock of the replica that has the earlier process is an hour fast.
  const fast = Date.now() + HOUR;
  const here = alone(line('first', fast));
  const late = here.opened('c1', 'second');
  expect(late.tunnel.rank).toBeGreaterThan(fast);
  here.hear(line('first', fast));
  expect(late.ended()).toBe('');
});

test('of two processes that came before the replicas had told each other, each replica keeps the same one', () => {
  const now = Date.now();
  for (const [mine, other] of [
    [5, 6],
    [6, 5],
    [5, 5],
  ] as const) {
    vi.spyOn(Date, 'now').mockReturnValue(now);
    const [one, two] = [alone(), alone()];
    const tunnels = [one.opened('c1', 'a').tunnel, two.opened('c1', 'b').tunnel] as const;
    vi.restoreAllMocks();
    tunnels[0].rank += mine;
    tunnels[1].rank += other;
    const ends = tunnels.map((tunnel) => vi.spyOn(tunnel, 'destroy'));
    one.hear(line('b', tunnels[1].rank));
    two.hear(line('a', tunnels[0].rank));
    expect(ends.map(({ mock }) => mock.calls.length)).toEqual(mine > other ? [0, 1] : [1, 0]);
  }
});

test('of two replicas that end a tunnel of one process, the one that had it longer reports that, in whatever order they hear of it', () => {
  const [early, late] = [alone(), alone()];
  const first = early.opened('c1', 'first').tunnel;
  late.hear(line('first', first.rank));
  const second = late.opened('c1', 'first').tunnel;
  early.hear(line('first', second.rank));
  const newer = line('second', second.rank + 1);
  // The later one is told by the earlier one that its tunnel has gone before it is told why.
  late.hear();
  late.hear(newer);
  early.hear(line('first', second.rank), newer);
  expect([early.reported, late.reported]).toEqual([['c1'], []]);
});

test('what an older version tells, or what is about to end, takes nothing over', () => {
  const here = alone();
  const mine = here.opened('c1', 'first');
  here.hear(line(undefined, undefined), line('second', Date.now() + HOUR, { draining: true }));
  expect([mine.ended(), here.reported]).toEqual(['', []]);
  // Of a tunnel of clusternet's agent too.
  here.hear(line('', Date.now() + HOUR, { protocol: 'clusternet' }));
  expect([mine.ended(), here.reported]).toEqual(['superseded by another agent of this cluster', ['c1']]);
});

test('instance and rank travel between replicas; one that does not know them reads the rest', () => {
  const tunnel = { id: 'c1', protocol: 'fairlead', agentVersion: '1', instance: 'one', rank: 7, tookOver: true, since: new Date(0) };
  const whole = { ...tunnel, draining: false, roundTripMs: 1 };
  expect(parseTunnelLine(tunnelLine({ tunnel: whole }))).toEqual({ tunnel: whole });
  expect(parseTunnelLine('{"tunnel":{"id":"c1","since":"2026-01-02T03:04:05Z"}}')).toMatchObject({
    tunnel: { instance: undefined, rank: undefined, tookOver: false },
  });
});

test('when a replica is lost, the other one says since when its clusters are away; those that are held elsewhere are not', async () => {
  const [one, two, three] = await replicas('hub-1', 'hub-2', 'hub-3');
  if (!one || !two || !three) throw new Error('no replicas');
  two.opened('c1', 'agent');
  two.opened('c2', 'agent');
  three.opened('c2', 'agent', true);
  await eventually(() => expect([one.peers.told('c1').length, one.peers.told('c2').length]).toEqual([1, 2]));
  const before = Date.now();
  // As a process that is killed: no line says that its tunnels have gone.
  two.proxy.stall();
  two.proxy.cut();
  await eventually(() => expect(one.peers.told('c1')).toEqual([]));
  const refused = (id: string) =>
    findUpstream({ id, name: id }, one.directory, one.peers).then(
      () => 'a way',
      (error: { status: { message: string } }) => error.status.message,
    );
  await eventually(async () => {
    const [, since = ''] = /is not connected since (\S+): its agent is away/.exec(await refused('c1')) ?? [];
    expect(Date.parse(since)).toBeGreaterThanOrEqual(before - 1);
  });
  expect(await refused('c2')).toBe('a way');
  // The status of clusters is not judged by it: only the network between the replicas may be cut.
  expect(allConnections(one.directory, one.peers).get('c1')).toBeUndefined();
  expect(one.peers.lastEnd('c2')).toBeUndefined();
});

test('a directory remembers the ends of a bounded number of clusters, the last ones', () => {
  const directory = tunnelDirectory();
  const { opened } = door('hub', directory, { told: () => [], onChange: () => undefined });
  for (let at = 0; at < 20_001; at++) opened(`c${at}`, 'agent').tunnel.destroy('over');
  expect(directory.lastEnd('c20000')).toBeDefined();
  expect(directory.lastEnd('c18000')).toBeDefined();
  expect(directory.lastEnd('c0')).toBeUndefined();
});
