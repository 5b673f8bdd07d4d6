import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { longRun, times } from '../../test/support/counts.ts';
import { type AgentProcess, startAgent } from '../lab/agent.ts';
import type { ApiClient } from '../lab/api-client.ts';
import { type Child, startChild } from '../lab/child.ts';
import { type Hub, startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { createNetworkNamespace, type Link, type NetworkNamespace, noNetem, noNetworkNamespaces } from '../lab/network.ts';
import { pause, waitFor } from '../lab/wait.ts';
import { grantSockets, kubectlWith } from './env.ts';

// The agent is in a network namespace with one link to the parent and one to the child, where that is possible; otherwise beside them.
const noNamespaces = noNetworkNamespaces();
let namespace: NetworkNamespace | undefined;
let uplink: Link | undefined;
let parent: Lab;
let hub: Hub;
let child: Child;
let agent: AgentProcess;
let dev: ApiClient;
/** Path of the child's API server in the parent: it must be known while the child is away too. */
let proxied: string;

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
  dev = parent.clientFor({ user: 'dev' });
  proxied = await agent.proxyPath();
});
afterAll(async () => {
  await child?.stop();
  await parent?.stop();
  namespace?.release();
});

type Answer = { status: number; text: string; took: number };

async function ask(path = '/version'): Promise<Answer> {
  const began = performance.now();
  const { status, text } = await dev.request('GET', proxied + path);
  return { status, text, took: performance.now() - began };
}

/** Asks until the child answers and returns the milliseconds since `began`. */
async function usable(began: number, timeout = 60_000): Promise<number> {
  const answered = async () => {
    const { status, text } = await ask();
    if (status !== 200) throw new Error(`${status} ${text}`);
    return true;
  };
  await waitFor(answered, { what: 'the child to be reached', timeout, interval: 20 });
  return performance.now() - began;
}

const isUnavailable = ({ status, text }: Answer) => [503, 504].includes(status) && (JSON.parse(text) as { kind: string }).kind === 'Status';

/** Asks all the time until `stop`; every answer that is not 200 is kept. */
function steadyRequests(): { stop(): Promise<{ count: number; failed: string[]; slowest: number }> } {
  const controller = new AbortController();
  const failed: string[] = [];
  let count = 0;
  let slowest = 0;
  const loop = async () => {
    while (!controller.signal.aborted) {
      const { status, text, took } = await ask();
      count++;
      slowest = Math.max(slowest, took);
      if (status !== 200) failed.push(`${status} ${text.slice(0, 300)}`);
      await pause(5);
    }
  };
  const loops = Promise.all([loop(), loop(), loop(), loop()]);
  loops.catch(() => undefined);
  return {
    async stop() {
      controller.abort();
      await loops;
      return { count, failed, slowest };
    },
  };
}

describe('faults', () => {
  test('R42: a frozen agent: callers are told within 12 s, and it is back within 5 s of its thaw', async () => {
    const began = performance.now();
    agent.freeze();
    let thawed = 0;
    try {
      const answers = await Promise.all([ask(), ask('/api/v1/pods'), ask()]);
      for (const answer of answers) expect(isUnavailable(answer), answer.text).toBe(true);
      expect(performance.now() - began).toBeLessThan(13_000);
    } finally {
      thawed = performance.now();
      agent.thaw();
    }
    expect(await usable(thawed)).toBeLessThan(8_000);
    await agent.waitForTunnels(2);
  });

  test('R42: packets lost without a sign: callers are told within 12 s, the agent comes back by itself', async (context) => {
    if (noNamespaces !== undefined || !uplink) return context.skip(noNamespaces ?? 'no link');
    const watch = kubectlWith(parent, await agent.kubeconfigFor({ user: 'dev' })).start(['get', 'pods', '-w']);
    try {
      await waitFor(() => watch.output().includes('web'), { what: 'the watch to begin' });
      const began = performance.now();
      uplink.cut();
      const answer = await ask();
      expect(isUnavailable(answer), answer.text).toBe(true);
      expect(performance.now() - began).toBeLessThan(13_000);
      await waitFor(() => watch.exitCode() !== null, { what: 'the watch to end', timeout: 15_000 });
    } finally {
      await watch.stop();
      uplink.restore();
    }
    const restored = performance.now();
    // A pause of the backoff may just have begun: at most 30 s.
    expect(await usable(restored)).toBeLessThan(40_000);
    await agent.waitForTunnels(2);
  });

  test('R40: a replica killed: requests go on by the other, and both have a tunnel again after its start', async () => {
    const requests = steadyRequests();
    await hub.kill(0);
    await hub.start(0);
    await agent.waitForTunnels(2);
    const { count, failed, slowest } = await requests.stop();
    console.log(
      `R40: ${count} requests, ${failed.length} failed, slowest ${Math.round(slowest)} ms; ${[...new Set(failed)].slice(0, 3).join(' | ')}`,
    );
    // What was on its way in the replica that died, and what kube-apiserver still sent there.
    expect(failed.length).toBeLessThanOrEqual(Math.max(20, count * 0.2));
    expect(slowest).toBeLessThan(15_000);
    expect((await ask()).status).toBe(200);
  });

  const rolls = times(2, 20);
  test(`R46: ${rolls} rolling restarts of both replicas fail no request`, { timeout: longRun ? 1_200_000 : 180_000 }, async () => {
    await agent.waitForTunnels(2);
    const requests = steadyRequests();
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

  test("R41: the parent's API server restarted: the tunnels are back by themselves", async () => {
    await parent.restartApiServer();
    const began = performance.now();
    expect(await usable(began, 90_000)).toBeLessThan(60_000);
    await agent.waitForTunnels(2);
  });

  test("the child's API server restarted: 502 to 504 meanwhile, never a hang, and reached again at once", async () => {
    await child.lab.stopApiServer();
    const away = await ask();
    expect([502, 503, 504], away.text).toContain(away.status);
    expect((JSON.parse(away.text) as { kind: string }).kind).toBe('Status');
    expect(away.took).toBeLessThan(15_000);
    await child.lab.startApiServer();
    expect(await usable(performance.now())).toBeLessThan(10_000);
  });

  test('100 ms of delay and 1 % of loss: requests are slow and whole', async (context) => {
    const reason = noNetem();
    if (reason !== undefined || !uplink) return context.skip(reason ?? 'no link');
    uplink.impair(['delay', '50ms', 'loss', '1%']);
    try {
      for (let request = 0; request < times(50, 1_000); request++) expect((await ask()).status).toBe(200);
    } finally {
      uplink.impair(['delay', '0ms']);
    }
  });
});
