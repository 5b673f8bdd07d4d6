import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { longRun, times } from '../../test/support/counts.ts';
import { type AgentProcess, startAgent } from '../lab/agent.ts';
import { type Child, startChild } from '../lab/child.ts';
import { type Hub, startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { createNetworkNamespace, type Link, type NetworkNamespace, noLoss, noNetem, noNetworkNamespaces } from '../lab/network.ts';
import { waitFor } from '../lab/wait.ts';
import { grantSockets, kubectlWith } from './env.ts';
import { type Callers, callersOf, isUnavailable, type Usage, usageOf, waitForUsage } from './fault-tools.ts';
import { overLossyLink } from './lossy-link.ts';
import { slowReader } from './slow-reader.ts';

// The agent is in a network namespace with one link to the parent and one to the child, where that is possible; otherwise beside them.
const noNamespaces = noNetworkNamespaces();
let namespace: NetworkNamespace | undefined;
let uplink: Link | undefined;
let parent: Lab;
let hub: Hub;
let child: Child;
let agent: AgentProcess;
let callers: Callers;

beforeAll(async () => {
  namespace = noNamespaces === undefined ? createNetworkNamespace() : undefined;
  uplink = namespace?.addLink();
  const downlink = namespace?.addLink();
  const at = (link: Link | undefined) => (link ? { addresses: [link.host] } : {});
  [parent, child] = await Promise.all([startLab({ moto: false, kwok: false, nodes: [], ...at(uplink) }), startChild(at(downlink))]);
  hub = await startHub(parent, { replicas: 2, flags: ['--shutdown-delay=1s'] });
  agent = await startAgent(child, parent, {
    ...(namespace && uplink && downlink
      ? { network: { namespace, parentURL: parent.apiServerAt(uplink.host), childURL: child.lab.apiServerAt(downlink.host) } }
      : {}),
  });
  await agent.waitForTunnels(2);
  await grantSockets(parent, { user: 'dev', verbs: ['*'] });
  await child.grant({ kind: 'User', name: 'dev' });
  callers = callersOf(parent, 'dev', await agent.proxyPath());
});
afterAll(async () => {
  await child?.stop();
  await parent?.stop();
  namespace?.release();
});

/** Watches that were cut must not look whole, and never hang. */
const allBroken = (endings: readonly string[]) => expect([...new Set(endings)]).toEqual(['broken']);

describe('processes that go away', () => {
  test('R43, R44: the agent killed: 100 watches end within 5 s, callers are told within 6 s, and the child is reached within 10 s of its start', async () => {
    const watches = await callers.watches(100);
    try {
      await agent.kill();
      const killed = performance.now();
      allBroken(await watches.ended(5_000));
      const answer = await callers.ask();
      expect(isUnavailable(answer), answer.text).toBe(true);
      expect(performance.now() - killed).toBeLessThan(6_000);
    } finally {
      watches.cancel();
      await agent.start();
    }
    // 3 s on a machine that does nothing else.
    expect(await callers.usable(performance.now())).toBeLessThan(10_000);
    await agent.waitForTunnels(2);
  });

  test('R40: a replica killed: four of five requests at least go on by the other, none takes 15 s, and both have a tunnel again after its start', async () => {
    const requests = callers.steady();
    await hub.kill(0);
    await hub.start(0);
    await agent.waitForTunnels(2);
    const { count, failed, slowest } = await requests.stop();
    console.log(`R40: ${count} requests, ${failed.length} failed, slowest ${Math.round(slowest)} ms`);
    // What was on its way in the replica that died, and what kube-apiserver still sent there.
    expect(failed.length).toBeLessThanOrEqual(Math.max(20, count * 0.2));
    expect(slowest).toBeLessThan(15_000);
    expect((await callers.ask()).status).toBe(200);
  });

  test('R40: all of the hub killed: callers are told within 5 s, and the child is reached within 15 s of its start', async () => {
    const watches = await callers.watches(20);
    try {
      await Promise.all([hub.kill(0), hub.kill(1)]);
      allBroken(await watches.ended(5_000));
      const away = await callers.ask();
      expect(away.status, away.text).toBe(503);
      expect(away.took).toBeLessThan(5_000);
    } finally {
      watches.cancel();
      await Promise.all([hub.start(0), hub.start(1)]);
    }
    expect(await callers.usable(performance.now())).toBeLessThan(15_000);
    await agent.waitForTunnels(2);
  });

  const rolls = times(1, 20);
  test(`R46: ${rolls} rolling restart(s) of both replicas fail no request`, { timeout: longRun ? 1_200_000 : 180_000 }, async () => {
    await agent.waitForTunnels(2);
    const requests = callers.steady();
    for (let roll = 0; roll < rolls; roll++) {
      for (const index of [0, 1]) {
        await hub.kill(index, 'SIGTERM');
        await hub.start(index);
        await agent.waitForTunnels(2);
      }
    }
    const { count, failed, slowest } = await requests.stop();
    console.log(`R46: ${count} requests, slowest ${Math.round(slowest)} ms`);
    expect(failed).toEqual([]);
  });
});

describe('hub and agent stay, and everything else goes wrong', () => {
  const before = new Map<string, { pid: number; usage: Usage }>();
  beforeAll(async () => {
    await agent.waitForTunnels(2);
    // What is made once is made now.
    for (let round = 0; round < 3; round++) {
      const watches = await callers.watches(50);
      watches.cancel();
      await Promise.all(Array.from({ length: 50 }, () => callers.ask('/api/v1/namespaces')));
    }
    const pids = [
      ...hub.replicas.map(({ index, process }) => [`hub ${index}`, process?.pid ?? 0] as const),
      ['agent', agent.pid()] as const,
    ];
    for (const [name, pid] of pids) before.set(name, { pid, usage: usageOf(pid) });
  });

  test('R42: a frozen agent: callers are told within 13 s, Ready is Unknown within 33 s, and it is back within 8 s of its thaw', async () => {
    const watches = await callers.watches(20);
    const began = performance.now();
    agent.freeze();
    let thawed = 0;
    try {
      const answers = await Promise.all([callers.ask(), callers.ask('/api/v1/pods'), callers.ask()]);
      for (const answer of answers) expect(isUnavailable(answer), answer.text).toBe(true);
      expect(performance.now() - began).toBeLessThan(13_000);
      allBroken(await watches.ended(5_000));
      const unknown = async () => {
        const { stdout } = await parent.kubectl([
          'get',
          'mcls',
          '-A',
          '-o',
          'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}',
        ]);
        if (stdout !== 'Unknown') throw new Error(stdout);
        return true;
      };
      await waitFor(unknown, { what: 'Ready to be Unknown', timeout: 35_000, interval: 250 });
      expect(performance.now() - began).toBeLessThan(33_000);
    } finally {
      watches.cancel();
      thawed = performance.now();
      agent.thaw();
    }
    expect(await callers.usable(thawed)).toBeLessThan(8_000);
    await agent.waitForTunnels(2);
  });

  test('R42: packets lost without a sign: callers are told within 13 s, the agent comes back by itself within 40 s', async (context) => {
    if (noNamespaces !== undefined || !uplink) return context.skip(noNamespaces ?? 'no link');
    const watch = kubectlWith(parent, await agent.kubeconfigFor({ user: 'dev' })).start(['get', 'pods', '-w']);
    try {
      await waitFor(() => watch.output().includes('web') || Promise.reject(new Error(watch.errors())), { what: 'the watch to begin' });
      const began = performance.now();
      uplink.cut();
      const answer = await callers.ask();
      expect(isUnavailable(answer), answer.text).toBe(true);
      expect(performance.now() - began).toBeLessThan(13_000);
      await waitFor(() => watch.exitCode() !== null, { what: 'the watch to end', timeout: 15_000 });
    } finally {
      await watch.stop();
      uplink.restore();
    }
    const restored = performance.now();
    // A pause of the backoff may just have begun: at most 30 s.
    expect(await callers.usable(restored)).toBeLessThan(40_000);
    await agent.waitForTunnels(2);
  });

  test("R41: the parent's API server restarted: the tunnels are back by themselves within 60 s", async () => {
    await parent.restartApiServer();
    const began = performance.now();
    expect(await callers.usable(began, 90_000)).toBeLessThan(60_000);
    await agent.waitForTunnels(2);
  });

  test("the child's API server killed and started: 502 to 504 meanwhile, never a hang, and reached again at once", async () => {
    const watches = await callers.watches(20);
    try {
      await child.lab.stopApiServer('SIGKILL');
      allBroken(await watches.ended(5_000));
      const away = await callers.ask();
      expect([502, 503, 504], away.text).toContain(away.status);
      expect((JSON.parse(away.text) as { kind: string }).kind).toBe('Status');
      expect(away.took).toBeLessThan(15_000);
    } finally {
      watches.cancel();
      await child.lab.startApiServer();
    }
    expect(await callers.usable(performance.now())).toBeLessThan(10_000);
  });

  test('R38: readers that stop reading hold up nobody for 3 s, cost less than 150 MiB, and get everything in the end', async () => {
    const readers = await slowReader({ parent, child: child.lab, user: 'dev', path: await agent.proxyPath(), count: 4 });
    try {
      for (let request = 0; request < 30; request++) expect((await callers.ask()).took).toBeLessThan(3_000);
      for (const [name, { pid, usage }] of before)
        expect(usageOf(pid).residentMiB - usage.residentMiB, `MiB more in ${name}`).toBeLessThan(150);
      const lengths = await readers.finish();
      expect(new Set(lengths)).toEqual(new Set([readers.whole]));
    } finally {
      readers.cancel();
    }
  });

  test('R45: 200 ms away and 1 % of loss: requests are slow and whole', async (context) => {
    const reason = noNetem();
    if (reason !== undefined || !uplink) return context.skip(reason ?? 'no link');
    uplink.impair(['delay', '100ms', 'loss', '1%']);
    try {
      for (let request = 0; request < times(50, 1_000); request++) expect((await callers.ask()).status).toBe(200);
    } finally {
      uplink.impair(['delay', '0ms']);
    }
  });

  const reads = times(30, 1_000);
  test('R45: 5 % of all packets lost: every byte is right, a watch misses nothing, no tunnel ends', {
    timeout: 60_000 + reads * 10_000,
  }, async (context) => {
    const reason = noLoss();
    if (reason !== undefined || !uplink) return context.skip(reason ?? 'no link');
    uplink.lose(5);
    try {
      const changes = times(200, 5_000);
      const { bytes, wrong, seen, tunnelsOpened } = await overLossyLink({
        parent,
        child: child.lab,
        agent,
        callers,
        user: 'dev',
        reads,
        changes,
      });
      console.log(`R45: ${(bytes / 1e6).toFixed(0)} MB and ${seen.length} events with 5 % of loss`);
      expect({ wrong, tunnelsOpened }).toEqual({ wrong: 0, tunnelsOpened: 0 });
      expect(seen).toEqual(Array.from({ length: changes }, (_, at) => at));
    } finally {
      uplink.lose(0);
    }
  });

  test('R39: after all of that at most 24 descriptors and 120 MiB are more than before, in both replicas and the agent', async () => {
    console.log(`R39: ${await waitForUsage(before, { descriptors: 24, residentMiB: 120 })}`);
  });
});
