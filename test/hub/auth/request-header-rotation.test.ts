import { Agent } from 'node:https';
import { afterEach, expect, test } from 'vitest';
import type { Issued } from '../../../src/hub/certificates/x509.ts';
import { type CallAnswer, call } from './call.ts';
import { eventually } from './eventually.ts';
import { AUTHENTICATION, authenticationConfigMap, type HubListener, hubListener } from './hub-listener.ts';
import { type LoopbackApi, loopbackApi } from './loopback-api.ts';
import { makeCa, makeClient, makeServer } from './pki.ts';

const serverCa = makeCa('server-ca');
const first = makeCa('front-proxy-ca');
// The same name on purpose: kubeadm gives every front proxy CA this one.
const second = makeCa('front-proxy-ca');
const firstClient = makeClient(first, 'front-proxy-client');
const secondClient = makeClient(second, 'front-proxy-client');

const cleanUp: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const undo of cleanUp.splice(0).reverse()) await undo();
});

async function start(configMap?: ReturnType<typeof authenticationConfigMap>): Promise<{ api: LoopbackApi; hub: HubListener }> {
  const api = await loopbackApi();
  cleanUp.push(() => api.close());
  api.onReview(() => ({ allowed: true }));
  if (configMap) api.put(AUTHENTICATION.collection, configMap);
  const hub = await hubListener(api, makeServer(serverCa));
  cleanUp.push(() => hub.close());
  return { api, hub };
}

function keepAlive(): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  cleanUp.push(() => agent.destroy());
  return agent;
}

const asUser = (hub: HubListener, client: Pick<Issued, 'cert' | 'key'>, agent?: Agent): Promise<CallAnswer> =>
  call({ port: hub.port, ca: serverCa.cert, client, headers: ['X-Remote-User', 'bob'], ...(agent && { agent }) });

const becomes = (what: string, hub: HubListener, client: Issued, code: number) =>
  eventually(what, async () => (await asUser(hub, client)).code === code, 5_000);

test('R13: nobody is a front proxy without the ConfigMap, and readyz names it; once there it counts', async () => {
  const { api, hub } = await start();
  await eventually('the problem', async () => (await hub.problems()).some((problem) => problem.includes('does not exist')));
  expect((await hub.problems())[0]).toContain('kube-system/extension-apiserver-authentication');
  const agent = keepAlive();
  expect((await asUser(hub, firstClient, agent)).code).toBe(503);
  expect((await call({ port: hub.port, ca: serverCa.cert, headers: ['X-Remote-User', 'bob'] })).code).toBe(401);
  api.put(AUTHENTICATION.collection, authenticationConfigMap(first.cert));
  await becomes('the front proxy counts', hub, firstClient, 200);
  // The connection from before knew no CA; it must not be refused for ever.
  await eventually('the old connection is renewed', async () => (await asUser(hub, firstClient, agent)).code === 200);
  expect(await hub.problems()).toEqual([]);
});

const broken: Record<string, ReturnType<typeof authenticationConfigMap>> = {
  'no CA': authenticationConfigMap(''),
  'a CA that is no PEM': authenticationConfigMap('nonsense'),
  'a damaged CA': authenticationConfigMap(first.cert.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA')),
  'one damaged CA of two': authenticationConfigMap(first.cert + second.cert.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA')),
  'names that are no JSON': authenticationConfigMap(first.cert, { 'requestheader-allowed-names': 'front-proxy-client' }),
  'names that are no strings': authenticationConfigMap(first.cert, { 'requestheader-allowed-names': '[1]' }),
  'no username header': authenticationConfigMap(first.cert, { 'requestheader-username-headers': '[]' }),
  'an empty prefix': authenticationConfigMap(first.cert, { 'requestheader-extra-headers-prefix': '[""]' }),
};

for (const [what, configMap] of Object.entries(broken)) {
  test(`R13: ${what} at the start: closed`, async () => {
    const { hub } = await start(configMap);
    await eventually('the problem', () => hub.frontProxy.problem()?.includes('requestheader-'));
    expect(hub.frontProxy.current()).toBeUndefined();
    expect((await asUser(hub, firstClient)).code).toBe(503);
    expect(hub.sideEffects()).toBe(0);
  });
}

test('R13: a forbidden ConfigMap closes and is named', async () => {
  const api = await loopbackApi();
  cleanUp.push(() => api.close());
  api.fault('configmaps', { code: 403, body: '{"kind":"Status","reason":"Forbidden","message":"configmaps is forbidden","code":403}' });
  const hub = await hubListener(api, makeServer(serverCa));
  cleanUp.push(() => hub.close());
  await eventually('the problem', () => hub.frontProxy.problem()?.includes('is forbidden'));
  expect((await asUser(hub, firstClient)).code).toBe(503);
});

test('R13: a broken update keeps the last good one and says so; a deletion closes', async () => {
  const { api, hub } = await start(authenticationConfigMap(first.cert));
  await becomes('the front proxy counts', hub, firstClient, 200);
  api.put(AUTHENTICATION.collection, authenticationConfigMap('nonsense'));
  await eventually('the problem', () => hub.frontProxy.problem()?.includes('no certificate'));
  expect((await asUser(hub, firstClient)).code).toBe(200);
  const agent = keepAlive();
  expect((await asUser(hub, firstClient, agent)).code).toBe(200);
  api.delete(AUTHENTICATION.collection, AUTHENTICATION.name);
  await becomes('closed', hub, firstClient, 503);
  expect((await asUser(hub, firstClient, agent)).code).toBe(503);
});

test('R13: a live rotation fails no call while both CAs are there, and refuses the old one within 5 s after', async () => {
  const { api, hub } = await start(authenticationConfigMap(first.cert));
  await becomes('the first CA counts', hub, firstClient, 200);
  const intermediate = makeCa('front-proxy-intermediate', first);
  const leaf = makeClient(intermediate, 'front-proxy-client');
  const long = { first: keepAlive(), below: keepAlive() };
  const below = { cert: leaf.cert + intermediate.cert, key: leaf.key };
  let running = true;
  const refused: string[] = [];
  let calls = 0;
  /** Calls without pause, half of them on one connection kept from before. */
  async function load(name: string, client: Pick<Issued, 'cert' | 'key'>, agent: Agent): Promise<void> {
    while (running) {
      for (const connection of [agent, undefined]) {
        calls++;
        const answer = await asUser(hub, client, connection);
        if (answer.code !== 200) refused.push(`${name} ${answer.code}`);
      }
    }
  }
  const loads = [load('direct', firstClient, long.first), load('below an intermediate', below, long.below)];
  await eventually('some calls', () => calls > 20);
  api.put(AUTHENTICATION.collection, authenticationConfigMap(first.cert + second.cert));
  await becomes('the second CA counts', hub, secondClient, 200);
  const at = calls;
  await eventually('calls with both CAs', () => calls > at + 40);
  running = false;
  await Promise.all(loads);
  expect(refused).toEqual([]);

  const newcomer = keepAlive();
  expect((await asUser(hub, secondClient, newcomer)).code).toBe(200);
  api.put(AUTHENTICATION.collection, authenticationConfigMap(second.cert));
  await becomes('the first CA is refused', hub, firstClient, 401);
  const before = hub.sideEffects();
  // On connections that were trusted when they were made, too.
  expect((await asUser(hub, firstClient, long.first)).code).toBe(401);
  expect((await asUser(hub, below, long.below)).code).toBe(401);
  expect(hub.sideEffects()).toBe(before);
  expect((await asUser(hub, secondClient, newcomer)).code).toBe(200);
  expect((await asUser(hub, secondClient)).code).toBe(200);
});
