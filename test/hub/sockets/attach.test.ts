import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { times } from '../../support/counts.ts';
import { type AgentMachine, AttachRefused, agentMachine, openAttach, type SocketHub, socketHub } from '../../support/socket-hub.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { ask, asking, direct, statusOf, tunnelsOf } from './session-tools.ts';

const clean = cleanUp();
async function start(options: Parameters<typeof socketHub>[0] = {}): Promise<{ hub: SocketHub; id: string; machine: AgentMachine }> {
  const hub = await socketHub(options);
  clean.after(() => hub.close());
  const machine = await agentMachine(hub, (request, response) => {
    if (request.url === '/watch') response.write('{}\n');
    else response.end('small');
  });
  clean.after(() => machine.close());
  return { hub, id: hub.addCluster(), machine };
}

test('the answer to an agent says which replica it is, and how many there are', async () => {
  const { hub, id, machine } = await start();
  const { headers } = await machine.attach(id, { instance: 'one' });
  expect(headers['fairlead-replica']).toBe('hub-0');
  expect(headers['fairlead-replicas']).toBe('1');
  await tunnelsOf(hub, id, 1);
  expect(hub.directory.of(id)[0]).toMatchObject({ protocol: 'fairlead', instance: 'one', agentVersion: '1', credentialID: undefined });
  expect(hub.opened).toEqual([{ id, credentialID: undefined }]);
});

test('an agent that has a tunnel to this replica already gets 409, and is told which replica that is', async () => {
  const { hub, id, machine } = await start();
  const error = await machine.attach(id, { have: 'hub-7,hub-0' }).catch((failure: unknown) => failure);
  expect(error).toBeInstanceOf(AttachRefused);
  expect(error).toMatchObject({ code: 409, headers: { 'fairlead-replica': 'hub-0', 'fairlead-replicas': '1' } });
  expect(await hub.metric('fairlead_hub_tunnel_attaches_total', { result: 'duplicate' })).toBe(1);
  await machine.attach(id, { have: 'hub-7,hub-00' });
});

test('R49: agents that come all at once are let in at the given rate; the others get 429 with Retry-After and get in later', async () => {
  const perSecond = times(5, 50);
  const { hub, machine } = await start({ perSecond });
  const ids = Array.from({ length: 4 * perSecond }, () => hub.addCluster());
  const began = performance.now();
  const came = await Promise.all(
    ids.map((id) =>
      openAttach(hub, id).then(
        ({ socket }) => {
          clean.after(() => socket.destroy());
          return undefined;
        },
        (error: unknown) => error,
      ),
    ),
  );
  const passed = (performance.now() - began) / 1_000;
  const refused = came.filter((error) => error !== undefined);
  for (const error of refused) expect(error).toMatchObject({ code: 429, headers: { 'retry-after': '1' } });
  const let_in = ids.length - refused.length;
  expect(let_in).toBeGreaterThanOrEqual(perSecond);
  expect(let_in).toBeLessThanOrEqual(Math.ceil(perSecond * (1 + passed)));
  const last = hub.addCluster();
  await waitUntil(async () => {
    const got = await machine.attach(last).catch((error: unknown) => error);
    return !(got instanceof AttachRefused);
  }, 'room for the last');
  await tunnelsOf(hub, last, 1);
});

test('what is no proper attach is refused, and opens nothing', async () => {
  const { hub, id } = await start();
  const attach = direct(id, '').replace('/proxy/direct', '/attach');
  const upgrade = (token: string) => ({ connection: 'Upgrade', upgrade: token });
  for (const [method, headers, code] of [
    ['GET', upgrade('fairlead/1'), 400],
    ['PUT', upgrade('fairlead/1'), 400],
    ['POST', upgrade('fairlead/2'), 400],
    ['POST', upgrade('websocket'), 400],
    ['POST', {}, 405],
    ['GET', {}, 405],
  ] as const) {
    const got = await ask(hub, { method, path: attach, headers });
    expect(statusOf(got), `${method} ${JSON.stringify(headers)}`).toMatchObject({ kind: 'Status', code });
  }
  expect([...hub.directory.local()]).toEqual([]);
});

test('draining: agents are told to go elsewhere and none is let in; who finds nothing else keeps what runs, and gets requests until nobody can ask here', async () => {
  const { hub, id, machine } = await start();
  const idle = hub.addCluster();
  const { tunnel } = await machine.attach(id);
  const { tunnel: other } = await machine.attach(idle);
  const watch = asking(hub, { path: direct(id, '/watch') });
  await waitUntil(() => watch.got() > 0, 'a watch');
  let drained = false;
  const served = Promise.withResolvers<void>();
  const draining = hub.room.drain(20_000, served.promise).then(() => {
    drained = true;
  });
  await waitUntil(() => tunnel.isDraining() && other.isDraining(), 'both to be told');
  await expect(machine.attach(id)).rejects.toMatchObject({ code: 503, headers: { 'retry-after': '1' } });
  expect((await ask(hub, { path: direct(idle, '/') })).body.toString()).toBe('small');
  served.resolve();
  expect(await other.closed).toBe('the connection ended');
  expect(drained).toBe(false);
  expect(watch.got()).toBe(3);
  watch.cancel();
  expect(await tunnel.closed).toBe('the connection ended');
  await draining;
  expect([...hub.directory.local()]).toEqual([]);
});

test('R8: an agent process that hands the socket over in order keeps its open streams, and nobody is told of a takeover', async () => {
  const { hub, id, machine: first } = await start();
  const second = await agentMachine(hub, (_request, response) => response.end('second'));
  clean.after(() => second.close());
  const { tunnel } = await first.attach(id, { instance: 'one' });
  await tunnelsOf(hub, id, 1);
  const watches = [asking(hub, { path: direct(id, '/watch') }), asking(hub, { path: direct(id, '/watch') })];
  await waitUntil(() => watches.every((watch) => watch.got() > 0), 'open streams');
  // As an agent replica does that is replaced: what runs in it may end in its own time.
  tunnel.leave();
  await waitUntil(() => hub.directory.of(id)[0]?.isClosing() === true, 'the tunnel to be left');
  await second.attach(id, { instance: 'two' });
  await tunnelsOf(hub, id, 2);
  expect((await ask(hub, { path: direct(id, '/') })).body).toBe('second');
  expect(first.streams.size).toBe(2);
  expect([hub.takenOver, await hub.metric('fairlead_hub_tunnel_attaches_total', { result: 'took_over' })]).toEqual([[], 0]);
  for (const watch of watches) watch.cancel();
  expect(await tunnel.closed).toBe('the connection ended');
});

test('R46: requests that come while the agent is between two tunnels wait for the next, upgrades too; for one that was lost they fail at once', async () => {
  const { hub, id, machine } = await start();
  const { tunnel } = await machine.attach(id);
  await tunnelsOf(hub, id, 1);
  tunnel.leave();
  await tunnel.closed;
  await tunnelsOf(hub, id, 0);
  const waiting = ask(hub, { path: direct(id, '/') });
  const upgrading = ask(hub, { path: direct(id, '/'), headers: { connection: 'Upgrade', upgrade: 'websocket' } });
  const { socket } = await machine.attach(id);
  expect((await waiting).body.toString()).toBe('small');
  expect((await upgrading).body.toString()).toBe('small');
  socket.destroy();
  await tunnelsOf(hub, id, 0);
  const began = performance.now();
  expect(statusOf(await ask(hub, { path: direct(id, '/') }))).toMatchObject({ code: 503 });
  // Nothing was waited for: an agent that has left would have three seconds.
  expect(performance.now() - began).toBeLessThan(2_500);
});

test('R46: whoever gives up while waiting for an agent leaves nothing behind', async () => {
  const { hub, id, machine } = await start();
  const { tunnel } = await machine.attach(id);
  await tunnelsOf(hub, id, 1);
  tunnel.leave();
  await tunnelsOf(hub, id, 0);
  const asked = Array.from({ length: 20 }, () => asking(hub, { path: direct(id, '/watch') }));
  await new Promise((resolve) => setTimeout(resolve, 100));
  for (const one of asked) one.cancel();
  await machine.attach(id);
  expect((await ask(hub, { path: direct(id, '/') })).body.toString()).toBe('small');
  await waitUntil(async () => (await hub.metric('fairlead_hub_socket_requests_open', { kind: 'request' })) === 0, 'nothing to be open');
});

test('draining: what has not ended after the time for it is cut, and the agent told why', async () => {
  const { hub, id, machine } = await start();
  const { tunnel } = await machine.attach(id);
  const watch = asking(hub, { path: direct(id, '/watch') });
  await waitUntil(() => watch.got() > 0, 'a watch');
  await hub.room.drain(300, new Promise(() => undefined));
  expect(await tunnel.closed).toBe('the hub is stopping');
  expect((await watch.ended).whole).toBe(false);
});
