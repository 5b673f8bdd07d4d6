import { expect, test, vi } from 'vitest';
import { parentConnection } from '../../src/agent/parent/parent.ts';
import type { Credential } from '../../src/agent/registration/store.ts';
import { type Keeper, type KeeperOptions, keepTunnels, type TunnelEvent } from '../../src/agent/tunnel/keeper.ts';
import { cleanUp } from '../support/clean-up.ts';
import { type SocketServer, socketServer } from './support/socket-server.ts';

const { after } = cleanUp();
const CREDENTIAL: Credential = {
  clusterId: '6b0f9c53-2a0b-4b53-9d1f-0e7a5f3c1d2e',
  parentURL: '',
  token: 'one',
  ca: '',
  namespace: 'n',
  managedCluster: 'm',
  obtainedAt: 0,
  expiresAt: undefined,
};

const TIMING = { retryMs: 2, longestRetryMs: 20, lookMs: 50, stableMs: 0, supersededMs: 100_000 };

type Kept = {
  hub: SocketServer;
  keeper: Keeper;
  events: TunnelEvent[];
  refused: Credential[];
  change(credential: Credential | undefined): void;
};

async function keep(
  options: Partial<KeeperOptions> = {},
  prepare: (hub: SocketServer) => void = () => undefined,
  present?: SocketServer,
): Promise<Kept> {
  const hub = present ?? (await socketServer());
  if (!present) after(() => hub.close());
  prepare(hub);
  const stop = new AbortController();
  const events: TunnelEvent[] = [];
  const refused: Credential[] = [];
  const errors: unknown[] = [];
  let credential: Credential | undefined = CREDENTIAL;
  let tell: () => void = () => undefined;
  const keeper = keepTunnels({
    parent: parentConnection({ url: hub.url, caFile: '', ca: hub.ca, serverName: '' }, () => undefined, {}),
    clusterId: CREDENTIAL.clusterId,
    instance: 'i',
    version: 'v',
    tunnels: 2,
    credential: () => credential,
    onCredential: (listener) => {
      tell = listener;
    },
    refused: (given) => refused.push(given),
    serve: (stream) => {
      stream.respond({ ':status': 200 });
      stream.end('hello');
    },
    signal: stop.signal,
    onEvent: (event) => events.push(event),
    onError: (error) => errors.push(error),
    timing: TIMING,
    ...options,
  });
  after(async () => {
    await keeper.stop(0);
    stop.abort();
    expect(errors).toEqual([]);
  });
  return {
    hub,
    keeper,
    events,
    refused,
    change(given) {
      credential = given;
      tell();
    },
  };
}
const replicas = (hub: SocketServer) => hub.tunnels.map(({ replica }) => replica).sort();
const settled = (hub: SocketServer, expected: string[]) => vi.waitFor(() => expect(replicas(hub)).toEqual(expected), { timeout: 20_000 });

/** One request through a tunnel, and its answer's body. */
function get({ tunnel }: SocketServer['tunnels'][number]): Promise<string> {
  return new Promise((resolve, reject) => {
    const stream = tunnel.session.request({ ':path': '/' });
    let text = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    stream.on('end', () => resolve(text)).on('error', reject);
  });
}

test('there are two tunnels, to different replicas, and both carry requests', async () => {
  const { hub, keeper } = await keep();
  await settled(hub, ['a', 'b']);
  expect(await Promise.all(hub.tunnels.map(get))).toEqual(['hello', 'hello']);
  await vi.waitFor(() => expect([keeper.count(), keeper.roundTripMs() !== undefined]).toEqual([2, true]));
});

test('with one replica there is one tunnel, and a second when there is a second replica', async () => {
  const { hub, keeper } = await keep({}, (server) => {
    server.replicas = ['a'];
  });
  await settled(hub, ['a']);
  await vi.waitFor(() => expect(hub.asked.length).toBeGreaterThan(2));
  expect([replicas(hub), keeper.count()]).toEqual([['a'], 1]);
  hub.replicas = ['a', 'b'];
  await settled(hub, ['a', 'b']);
});

test('a tunnel that is lost is opened again, alone', async () => {
  const { hub, events } = await keep();
  await settled(hub, ['a', 'b']);
  const other = hub.tunnels.find(({ replica }) => replica === 'b');
  hub.tunnels.find(({ replica }) => replica === 'a')?.tunnel.session.destroy();
  await vi.waitFor(() => expect(events.some(({ kind }) => kind === 'down')).toBe(true));
  await settled(hub, ['a', 'b']);
  expect(hub.tunnels).toContain(other);
});

test('a replica that drains is replaced at once, and what is under way in it ends undisturbed', async () => {
  const ends: (() => void)[] = [];
  const { hub, events } = await keep({
    serve: (stream) => {
      stream.respond({ ':status': 200 });
      stream.write('begun ');
      ends.push(() => stream.end('ended'));
    },
  });
  await settled(hub, ['a', 'b']);
  const draining = hub.tunnels.find(({ replica }) => replica === 'a');
  if (!draining) throw new Error('no tunnel');
  const answer = get(draining);
  await vi.waitFor(() => expect(ends).toHaveLength(1));
  hub.replicas = ['b', 'c'];
  draining.tunnel.drain();
  await settled(hub, ['a', 'b', 'c']);
  expect(events.some(({ kind }) => kind === 'down')).toBe(false);
  ends[0]?.();
  expect(await answer).toBe('begun ended');
  await settled(hub, ['b', 'c']);
  expect(events).toContainEqual(expect.objectContaining({ kind: 'down', replica: 'a', why: 'draining' }));
});

test('when all replicas drain, the tunnel is held until there is another one: requests that never stop all get their answer', async () => {
  const { hub, events } = await keep({}, (server) => {
    server.replicas = ['a'];
  });
  await settled(hub, ['a']);
  let over = false;
  let answered = 0;
  const failures: unknown[] = [];
  // As the hub: the newest that lasts, else one that still takes requests.
  const best = () => hub.tunnels.findLast(({ tunnel }) => !tunnel.isDraining()) ?? hub.tunnels.find(({ tunnel }) => !tunnel.isClosing());
  const caller = async () => {
    while (!over) {
      const entry = best();
      await (entry ? get(entry) : Promise.reject(new Error('no tunnel'))).then(
        () => answered++,
        (error: unknown) => failures.push(error),
      );
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const callers = Array.from({ length: 8 }, caller);
  for (const next of ['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']) {
    const [draining] = hub.tunnels;
    const goal = answered + 20;
    hub.refuse = () => ({ code: 503 });
    draining?.tunnel.drain();
    await vi.waitFor(() => expect(answered + failures.length).toBeGreaterThan(goal));
    expect(hub.tunnels).toContain(draining);
    hub.replicas = [next];
    hub.refuse = () => undefined;
    await settled(hub, [next]);
  }
  over = true;
  await Promise.all(callers);
  expect(failures).toEqual([]);
  expect(events.filter(({ kind }) => kind === 'down')).toHaveLength(8);
});

test('a new credential replaces the tunnels one by one: there is always one', async () => {
  const { hub, keeper, change, events } = await keep();
  await settled(hub, ['a', 'b']);
  change({ ...CREDENTIAL, token: 'two' });
  await vi.waitFor(() => expect(hub.tunnels.map(({ token }) => token)).toEqual(['two', 'two']), { timeout: 20_000 });
  expect(replicas(hub)).toEqual(['a', 'b']);
  expect(keeper.count()).toBe(2);
  expect(events.filter(({ kind }) => kind === 'down')).toHaveLength(2);
  for (const event of events) if (event.kind === 'down') expect([event.why, event.tunnels > 0]).toEqual(['renewed', true]);
});

test('without a credential the tunnels end and nothing is dialled; with one they are back', async () => {
  const { hub, change } = await keep();
  await settled(hub, ['a', 'b']);
  change(undefined);
  await settled(hub, []);
  const asked = hub.asked.length;
  change(undefined);
  expect(hub.asked.length).toBe(asked);
  change(CREDENTIAL);
  await settled(hub, ['a', 'b']);
});

test('a credential that is refused is reported, and dialling goes on with pauses', async () => {
  const { hub, refused } = await keep({}, (server) => {
    server.refuse = () => ({ code: 403, body: '{"kind":"Status","message":"revoked"}' });
  });
  await vi.waitFor(() => expect(refused.length).toBeGreaterThan(2));
  expect(new Set(refused)).toEqual(new Set([CREDENTIAL]));
  hub.refuse = () => undefined;
  await settled(hub, ['a', 'b']);
});

test('while another replica cannot be reached, a tunnel that is lost is still replaced at once', async () => {
  const { hub } = await keep({ timing: { ...TIMING, retryMs: 100_000, longestRetryMs: 100_000 } }, (server) => {
    server.replicas = ['a'];
    server.refuse = ({ headers }) => (headers['fairlead-have'] ? { code: 503, body: '' } : undefined);
  });
  await settled(hub, ['a']);
  // The attempt for a second tunnel failed, and waits for up to 100 seconds.
  await vi.waitFor(() => expect(hub.asked).toHaveLength(2));
  const first = hub.tunnels[0];
  first?.tunnel.session.destroy();
  await vi.waitFor(() => expect(hub.tunnels.filter((entry) => entry !== first)).toHaveLength(1), { timeout: 20_000 });
});

test('a hub that drops each tunnel at once is not dialled in a tight loop', async () => {
  const { hub, events } = await keep({ timing: { ...TIMING, retryMs: 40, longestRetryMs: 10_000, stableMs: 5_000 } });
  const drop = setInterval(() => {
    for (const { tunnel } of hub.tunnels) tunnel.session.destroy();
  }, 1);
  after(() => clearInterval(drop));
  await vi.waitFor(() => expect(events.filter(({ kind }) => kind === 'down').length).toBeGreaterThan(5), { timeout: 30_000 });
  const ups = hub.asked.length;
  const began = performance.now();
  await vi.waitFor(() => expect(hub.asked.length).toBeGreaterThan(ups), { timeout: 30_000 });
  // Six failures: the pause is now a random part of 40 ms doubled six times.
  await vi.waitFor(() => expect(hub.asked.length).toBeGreaterThan(ups + 1), { timeout: 30_000 });
  expect((hub.asked.length - ups) / (performance.now() - began)).toBeLessThan(0.05);
});

test('Retry-After is waited for', async () => {
  const began = performance.now();
  const { hub } = await keep({}, (server) => {
    server.refuse = () => (server.asked.length === 1 ? { code: 503, headers: { 'Retry-After': '1' } } : undefined);
  });
  await settled(hub, ['a', 'b']);
  expect(performance.now() - began).toBeGreaterThanOrEqual(1_000);
});

test('an agent that another took over does not fight back', async () => {
  const { hub, events } = await keep();
  await settled(hub, ['a', 'b']);
  const asked = hub.asked.length;
  for (const { tunnel } of hub.tunnels) tunnel.destroy('superseded by another instance of the agent');
  await vi.waitFor(() => expect(events.filter((event) => event.kind === 'down' && event.why === 'superseded')).toHaveLength(2));
  expect(hub.asked.length).toBe(asked);
});

/** As the hub: the newest process has the cluster, and the tunnels of another one end. */
function newestWins(hub: SocketServer): { instances: string[] } {
  const instances: string[] = [];
  hub.refuse = ({ headers }) => {
    const instance = String(headers['fairlead-instance']);
    if (instances.at(-1) !== instance) {
      for (const { tunnel } of hub.tunnels) tunnel.destroy('superseded by another instance of the agent');
      instances.push(instance);
    }
    return undefined;
  };
  return { instances };
}

test('a leader that is cut off from its Lease does not take the cluster back from the one that has replaced it, however often its time is up', async () => {
  const timing = { ...TIMING, supersededMs: 10 };
  let asked = 0;
  let reachable = false;
  const cutOff = await keep({ instance: 'cut off', timing, mayReturn: async () => ++asked > 0 && reachable });
  await settled(cutOff.hub, ['a', 'b']);
  const { instances } = newestWins(cutOff.hub);
  const leader = await keep({ instance: 'leader', timing, mayReturn: async () => true }, undefined, cutOff.hub);
  await vi.waitFor(() => expect(leader.keeper.count()).toBe(2));
  // Its time was up that often.
  await vi.waitFor(() => expect(asked).toBeGreaterThan(10));
  expect([instances, cutOff.keeper.count(), leader.keeper.count()]).toEqual([['leader'], 0, 2]);
  // The other one is gone for good, and the Lease is ours again.
  await leader.keeper.stop(0);
  reachable = true;
  await vi.waitFor(() => expect(cutOff.keeper.count()).toBe(2), { timeout: 20_000 });
});

test('without a Lease an agent that was taken over tries again after its time', async () => {
  const { hub, keeper } = await keep({ timing: { ...TIMING, supersededMs: 10 } });
  await settled(hub, ['a', 'b']);
  const before = [...hub.tunnels];
  for (const { tunnel } of before) tunnel.destroy('superseded by another instance of the agent');
  await vi.waitFor(() => expect([keeper.count(), hub.tunnels.filter((one) => before.includes(one))]).toEqual([2, []]), { timeout: 20_000 });
});

test('stopping lets requests end, takes no new tunnel, and cuts what does not end in time', async () => {
  const ends: (() => void)[] = [];
  const { hub, keeper } = await keep({
    serve: (stream) => {
      stream.respond({ ':status': 200 });
      ends.push(() => stream.end('ended'));
    },
  });
  await settled(hub, ['a', 'b']);
  const [first, second] = hub.tunnels;
  if (!first || !second) throw new Error('no tunnels');
  const answer = get(first);
  await vi.waitFor(() => expect(ends).toHaveLength(1));
  const never = get(second).catch((error: Error) => error);
  await vi.waitFor(() => expect(ends).toHaveLength(2));
  const stopped = keeper.stop(1_000);
  ends[0]?.();
  expect(await answer).toBe('ended');
  await stopped;
  expect(await never).not.toBe('ended');
  expect(keeper.count()).toBe(0);
  await settled(hub, []);
});
