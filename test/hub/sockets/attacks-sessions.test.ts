import { Agent } from 'node:https';
import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { limit, times } from '../../support/counts.ts';
import { type AgentMachine, agentMachine, asUser, openAttach, type SocketHub, socketHub, user } from '../../support/socket-hub.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { framePeer } from './frame-peer.ts';
import { type Asked, ask, asking, direct, echoUpgrade, many, SPDY, statusOf, tunnelsOf } from './session-tools.ts';

const clean = cleanUp();
async function startHub(options: Parameters<typeof socketHub>[0] = {}): Promise<SocketHub> {
  const hub = await socketHub(options);
  clean.after(() => hub.close());
  return hub;
}
async function startMachine(...args: Parameters<typeof agentMachine>): Promise<AgentMachine> {
  const machine = await agentMachine(...args);
  clean.after(() => machine.close());
  return machine;
}

/** A child that says who it is and what it was asked; `/watch` never ends, `/half` neither, and says how long it would be. */
const named = (hub: SocketHub, name: string, seen: string[] = []) =>
  startMachine(
    hub,
    (request, response) => {
      seen.push(request.url ?? '');
      if (request.url?.startsWith('/silent')) return;
      if (request.url?.startsWith('/watch')) response.write('{"type":"ADDED"}\n');
      else if (request.url?.startsWith('/half')) response.writeHead(200, { 'content-length': 100 }).write('half of it');
      else response.end(`${name} ${request.url}`);
    },
    echoUpgrade,
  );

test(
  'R7: with many agents in one hub every answer is that of the cluster that was asked',
  async () => {
    const hub = await startHub();
    const agents = times(6, 50);
    const machines: Array<{ id: string; seen: string[] }> = [];
    await many(agents, 4, async () => {
      const id = hub.addCluster();
      const seen: string[] = [];
      const machine = await named(hub, id, seen);
      await machine.attach(id, { user: user(`agent-${id}`) });
      machines.push({ id, seen });
    });
    const keep = new Agent({ keepAlive: true, ca: hub.ca, maxSockets: 32 });
    clean.after(() => keep.destroy());
    const calls = times(300, 10_000);
    const wrong: string[] = [];
    await many(calls, 32, async (call) => {
      const id = machines[(call * 7) % agents]?.id ?? '';
      const path = `/call/${call}?of=${id}`;
      // Some are given up on the way: what is left of them must not become an answer of the next on the same connection.
      if (call % 10 === 9) {
        const given = asking(hub, { path: direct(id, path), agent: keep });
        setImmediate(() => given.cancel());
        const { code, body } = await given.ended;
        if (code === 200 && body !== '' && body !== `${id} ${path}`) wrong.push(`${path}: ${body}`);
        return;
      }
      const { code, body } = await ask(hub, { path: direct(id, path), agent: keep });
      if (code !== 200 || body !== `${id} ${path}`) wrong.push(`${path}: ${code} ${body}`);
    });
    expect(wrong).toEqual([]);
    for (const { id, seen } of machines) {
      expect(seen.length).toBeGreaterThan(0);
      expect(seen.filter((path) => !path.endsWith(id))).toEqual([]);
    }
  },
  limit(60_000, 600_000),
);

test('R8: the newest agent process has the socket; the earlier one is told why and ended, with an event and a count', async () => {
  const hub = await startHub();
  const id = hub.addCluster();
  const [first, second] = [await named(hub, 'first'), await named(hub, 'second')];
  const early = await first.attach(id, { instance: 'one' });
  const twin = await first.attach(id, { instance: 'one' });
  await tunnelsOf(hub, id, 2);
  expect(hub.takenOver).toEqual([]);
  const watch = asking(hub, { path: direct(id, '/watch') });
  const exec = asking(hub, { method: 'POST', path: direct(id, '/exec'), headers: SPDY });
  const silent = asking(hub, { path: direct(id, '/silent') });
  await waitUntil(() => watch.got() > 0 && exec.got() > 0 && first.streams.size === 3, 'three open requests');

  await second.attach(id, { instance: 'two' });
  expect(await early.tunnel.closed).toMatch(/^superseded by another agent/);
  expect(await twin.tunnel.closed).toMatch(/^superseded by another agent/);
  expect(early.tunnel.isDraining()).toBe(false);
  expect((await watch.ended).whole).toBe(false);
  expect((await exec.ended).code).toBe(101);
  expect(statusOf(await silent.ended)).toMatchObject({ kind: 'Status', code: 503 });
  expect(hub.takenOver).toEqual([id]);
  expect(await hub.metric('fairlead_hub_tunnel_attaches_total', { result: 'took_over' })).toBe(1);
  expect(await hub.metric('fairlead_hub_tunnel_attaches_total', { result: 'ok' })).toBe(3);
  expect((await ask(hub, { path: direct(id, '/x') })).body).toBe('second /x');
  await tunnelsOf(hub, id, 1);
  await waitUntil(() => first.streams.size === 0, 'the streams of the first to end');
});

test(
  'R8: while two processes take the socket from each other, no request reaches the one that lost it',
  async () => {
    const hub = await startHub();
    const id = hub.addCluster();
    const seen: [string[], string[]] = [[], []];
    const machines = [await named(hub, '0', seen[0]), await named(hub, '1', seen[1])] as const;
    let stop = false;
    const mixed: string[] = [];
    let sent = 0;
    // Requests all the time: each has one whole answer, or is told that the tunnel was lost; none reaches both.
    const steady = many(4, 4, async () => {
      while (!stop) {
        const path = `/steady/${sent++}`;
        const got = await ask(hub, { path: direct(id, path) });
        if (got.code === 200 ? !/^[01] /.test(got.body) || got.body.slice(2) !== path || !got.whole : got.code !== 503)
          mixed.push(`${path}: ${got.code} ${got.body}`);
      }
    });
    const rounds = times(12, 200);
    for (let round = 0; round < rounds; round++) {
      const owner = round % 2;
      const { tunnel } = await machines[owner === 0 ? 0 : 1].attach(id, { instance: `process-${round}` });
      await waitUntil(() => hub.directory.of(id)[0]?.instance === `process-${round}`, 'the tunnel in the directory');
      const answers = await Promise.all(Array.from({ length: 5 }, (_, at) => ask(hub, { path: direct(id, `/round/${round}/${at}`) })));
      expect(answers.map(({ body }) => body)).toEqual(Array.from({ length: 5 }, (_, at) => `${owner} /round/${round}/${at}`));
      expect(tunnel.isDraining()).toBe(false);
    }
    stop = true;
    await steady;
    expect(mixed).toEqual([]);
    expect(sent).toBeGreaterThan(rounds);
    expect(seen[0].filter((path) => seen[1].includes(path))).toEqual([]);
    expect(hub.takenOver).toHaveLength(rounds - 1);
  },
  limit(60_000, 300_000),
);

const holding = (credential: string) => user('agent', { extra: { 'authentication.kubernetes.io/credential-id': [credential] } });

test('R8: a credential that was replaced opens no socket, at once; a tunnel that has it gets nothing any more, even when it does not go', async () => {
  const hub = await startHub();
  const id = hub.addCluster({ credentialIDs: ['JTI=old'] });
  const own = await named(hub, 'own');
  const thief = framePeer(await openAttach(hub, id, { instance: 'thief', user: holding('JTI=old') }));
  await tunnelsOf(hub, id, 1);
  expect(hub.opened).toEqual([{ id, credentialID: 'JTI=old' }]);
  const before = asking(hub, { path: direct(id, '/before') });
  await waitUntil(() => thief.requests.length === 1, 'a request to reach it');

  hub.setCluster(id, { credentialIDs: ['JTI=new'] });
  for (const who of [holding('JTI=old'), user('agent'), holding('')])
    await expect(openAttach(hub, id, { instance: 'thief', user: who })).rejects.toMatchObject({ code: 401 });
  expect(await hub.metric('fairlead_hub_tunnel_attaches_total', { result: 'refused' })).toBe(3);
  await waitUntil(() => thief.pings.includes('fl-drain'), 'the wish to go');
  // It does not go, and no other is there yet: no request must go to it for want of a better one.
  expect(hub.directory.of(id)).toHaveLength(1);
  const after = asking(hub, { path: direct(id, '/after') });
  await Promise.race([after.ended, waitUntil(() => thief.requests.length > 1, 'nothing')]);
  expect(thief.requests).toHaveLength(1);
  expect(statusOf(await after.ended)).toMatchObject({ code: 503 });

  await own.attach(id, { instance: 'own', user: holding('JTI=new') });
  await waitUntil(() => thief.socket.destroyed, 'the thief to be cut');
  expect(thief.goaways.join()).toMatch(/superseded/);
  expect(statusOf(await before.ended)).toMatchObject({ code: 503 });
  expect((await ask(hub, { path: direct(id, '/after') })).body).toBe('own /after');
});

test('R9: the tunnel of a cluster that is denied or deleted is cut, with all that runs in it, within 10 s also on a busy machine', async () => {
  const hub = await startHub();
  const [id, other] = [hub.addCluster(), hub.addCluster()];
  const machine = await named(hub, 'child');
  const { tunnel } = await machine.attach(id);
  await machine.attach(other);
  const [watch, beside] = [asking(hub, { path: direct(id, '/watch') }), asking(hub, { path: direct(other, '/watch') })];
  await waitUntil(() => watch.got() > 0 && beside.got() > 0, 'the watches');
  const at = performance.now();
  hub.setCluster(id, undefined);
  expect(await tunnel.closed).toBe('the cluster was denied or deleted');
  expect((await watch.ended).whole).toBe(false);
  expect((await watch.ended).at - at).toBeLessThan(10_000);
  expect(statusOf(await ask(hub, { path: direct(id, '/x') }))).toMatchObject({ code: 404 });
  await expect(machine.attach(id)).rejects.toMatchObject({ code: 404 });
  expect((await ask(hub, { path: direct(other, '/x') })).code).toBe(200);
  beside.cancel();
});

test('R9: what was opened with a right that was taken away ends within 10 s, what others opened goes on, and new is refused at once', async () => {
  const hub = await startHub();
  const [id, gone] = [hub.addCluster(), hub.addCluster()];
  const machine = await named(hub, 'child');
  const { tunnel: staying } = await machine.attach(id, { user: user('agent') });
  const { tunnel: leaving } = await machine.attach(gone, { user: user('agent-gone') });
  const open = (name: string, cluster = id) => [
    asking(hub, { path: direct(cluster, '/watch'), headers: asUser(user(name)) }),
    asking(hub, { path: direct(cluster, '/half'), headers: asUser(user(name)) }),
    asking(hub, { method: 'POST', path: direct(cluster, '/exec'), headers: { ...SPDY, ...asUser(user(name)) } }),
  ];
  const theirs = open('mallory');
  const others = open('jane');
  const there = open('jane', gone);
  const silent = asking(hub, { path: direct(id, '/silent'), headers: asUser(user('mallory')) });
  await waitUntil(() => [...theirs, ...others, ...there].every((asked) => asked.got() > 0), 'everything to be open');

  const at = performance.now();
  const judged: string[] = [];
  hub.allow(({ name }, verb) => {
    judged.push(`${name} ${verb}`);
    return name !== 'mallory' && name !== 'agent-gone';
  });
  const refused = await ask(hub, { path: direct(id, '/x'), headers: asUser(user('mallory')) });
  expect(statusOf(refused)).toMatchObject({ code: 403 });
  await expect(machine.attach(gone, { user: user('agent-gone') })).rejects.toMatchObject({ code: 403 });
  for (const { ended } of [...theirs, silent, ...there]) expect((await ended).at - at).toBeLessThan(10_000);
  for (const asked of [...theirs.slice(0, 2), ...there.slice(0, 2)]) expect((await asked.ended).whole).toBe(false);
  expect(await leaving.closed).toBe('the right to open this socket was taken away');
  expect(performance.now() - at).toBeLessThan(10_000);

  let ended = 0;
  for (const asked of others) asked.ended.then(() => ended++, expect.unreachable);
  await waitUntil(() => ['jane get', 'jane create', 'agent create'].every((who) => judged.includes(who)), 'the others to be judged too');
  expect(ended).toBe(0);
  await waitUntil(() => machine.streams.size === others.length, 'the streams of the rest to end at the agent');
  for (const asked of others) asked.cancel();
  await waitUntil(() => ended === others.length, 'the others to end');
  staying.leave();
});

test(
  'R44: a lost session ends everything in it within 2 s, by a Status or a reset, and no half answer looks whole',
  async () => {
    const hub = await startHub();
    const id = hub.addCluster();
    const machine = await named(hub, 'child');
    const { socket } = await machine.attach(id);
    await tunnelsOf(hub, id, 1);
    const count = times(80, 500);
    const kinds = ['/silent', '/watch', '/half', '/exec', '/upload'] as const;
    const all: Array<{ kind: string; asked: Asked }> = [];
    await many(count, 16, async (index) => {
      const kind = kinds[index % kinds.length] ?? '/silent';
      const options = { path: direct(id, kind === '/upload' ? '/silent' : kind) };
      const asked = asking(hub, {
        ...options,
        ...(kind === '/exec' && { method: 'POST', headers: SPDY }),
        ...(kind === '/upload' && { method: 'POST', body: Buffer.alloc(100_000) }),
      });
      all.push({ kind, asked });
      if (kind === '/exec' || kind === '/watch' || kind === '/half') await asked.head;
    });
    await waitUntil(() => machine.streams.size === count, 'everything to be in flight', 30_000);
    await waitUntil(() => all.every(({ kind, asked }) => kind === '/silent' || kind === '/upload' || asked.got() > 0), 'first bytes');
    const at = performance.now();
    socket.destroy();
    const ends = await Promise.all(all.map(async ({ kind, asked }) => ({ kind, ...(await asked.ended) })));
    expect(Math.max(...ends.map((end) => end.at)) - at).toBeLessThan(2_000);
    for (const end of ends) {
      if (end.kind === '/silent' || end.kind === '/upload') {
        expect(end).toMatchObject({ code: 503, whole: true });
        expect(statusOf(end)).toMatchObject({ kind: 'Status', code: 503 });
      } else if (end.kind !== '/exec') expect(end).toMatchObject({ code: 200, whole: false });
      else expect(end.code).toBe(101);
    }
    await tunnelsOf(hub, id, 0);
    await waitUntil(() => machine.streams.size === 0 && hub.responses.size === 0, 'nothing to be left');
    for (const kind of ['request', 'upgrade'])
      await waitUntil(async () => (await hub.metric('fairlead_hub_socket_requests_open', { kind })) === 0, `${kind}s to be over`, 5_000);
    // The agent comes back, and all is as before.
    await machine.attach(id);
    await tunnelsOf(hub, id, 1);
    expect((await ask(hub, { path: direct(id, '/x') })).body).toBe('child /x');
  },
  limit(60_000, 120_000),
);

test('R44: a session that the hub cuts, and one whose agent falls over while a head is read, leave nothing hanging', async () => {
  const hub = await startHub();
  const id = hub.addCluster();
  // An agent that accepts and never speaks.
  const { socket } = await openAttach(hub, id);
  socket.on('error', () => undefined);
  await tunnelsOf(hub, id, 1);
  const mute = asking(hub, { path: direct(id, '/x') });
  await waitUntil(() => hub.responses.size === 1, 'the request');
  hub.directory.of(id)[0]?.destroy('cut by the test');
  expect(statusOf(await mute.ended)).toMatchObject({ code: 503 });
  // One that answers with garbage.
  const garbage = await openAttach(hub, id);
  garbage.socket.on('error', () => undefined);
  await tunnelsOf(hub, id, 1);
  const misled = asking(hub, { path: direct(id, '/x') });
  garbage.socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  expect(statusOf(await misled.ended)).toMatchObject({ code: 503 });
  await tunnelsOf(hub, id, 0);
});
