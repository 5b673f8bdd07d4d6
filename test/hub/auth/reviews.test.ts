import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { authorizer } from '../../../src/hub/auth/authorizer.ts';
import type { Caller } from '../../../src/hub/auth/caller.ts';
import { tokenReviewer } from '../../../src/hub/auth/token-review.ts';
import type { RequestInfo } from '../../../src/hub/http/resource.ts';
import { StatusError } from '../../../src/kube/status.ts';
import { type CallAnswer, call } from './call.ts';
import { eventually } from './eventually.ts';
import { AUTHENTICATION, authenticationConfigMap, type HubListener, hubListener } from './hub-listener.ts';
import { type LoopbackApi, loopbackApi } from './loopback-api.ts';
import { makeCa, makeClient, makeServer } from './pki.ts';

const serverCa = makeCa('server-ca');
const requestHeaderCa = makeCa('front-proxy-ca');
const proxy = makeClient(requestHeaderCa, 'front-proxy-client');
const SAR = 'subjectaccessreviews';
const TOKEN = 'tokenreviews';

const cleanUp: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const undo of cleanUp.splice(0).reverse()) await undo();
});
async function startApi(): Promise<LoopbackApi> {
  const api = await loopbackApi();
  cleanUp.push(() => api.close());
  return api;
}

const caller = (name: string, groups: string[] = [], via: Caller['via'] = 'frontProxy'): Caller => ({
  user: { name, uid: `uid-${name}`, groups, extra: { scopes: ['a', 'b'] } },
  via,
});
const restart = (name = 'n1', subresource = 'restart'): RequestInfo => ({
  kind: 'resource',
  path: `/apis/infraops.michael.io/v1/nodes/${name}/${subresource}`,
  verb: 'create',
  group: 'infraops.michael.io',
  version: 'v1',
  resource: 'nodes',
  name,
  subresource,
  rest: '',
});
const statusOf = (promise: Promise<unknown>) =>
  promise.then(
    () => ({ code: 200, message: '' }),
    (error: unknown) => {
      if (error instanceof StatusError) return error.status;
      throw error;
    },
  );

test('R11: what is revoked is refused no later than 10 s after, in 100 trials', async () => {
  const api = await startApi();
  let clock = 0;
  const rights = authorizer({ client: api.client, now: () => clock });
  const tokens = tokenReviewer({ client: api.client, now: () => clock });
  let granted = true;
  api.onReview((kind) => {
    if (kind === 'SubjectAccessReview') return { allowed: granted };
    return granted ? { authenticated: true, user: { username: 'alice' } } : { authenticated: false };
  });
  const steps = fc.sample(fc.array(fc.integer({ min: 1, max: 4_000 }), { minLength: 12, maxLength: 30 }), { numRuns: 100, seed: 7 });
  let lateAllows = 0;
  for (const [trial, pauses] of steps.entries()) {
    granted = true;
    const who = caller(`user-${trial}`);
    const isAllowed = async () => (await rights.allowed(who, restart())) || (await tokens.review(`token-${trial}`)) !== undefined;
    expect(await isAllowed()).toBe(true);
    clock += pauses[0] ?? 1;
    granted = false;
    const revoked = clock;
    for (const pause of pauses) {
      clock += pause;
      if ((await isAllowed()) && clock - revoked >= 10_000) lateAllows++;
    }
    clock = Math.max(clock, revoked + 10_000);
    expect(await isAllowed()).toBe(false);
  }
  expect(lateAllows).toBe(0);
});

test('R11: answers count from when the question was sent, are shared in flight and kept; the cache is bounded', async () => {
  const api = await startApi();
  let clock = 0;
  const rights = authorizer({ client: api.client, now: () => clock, capacity: 100 });
  let reviews = 0;
  api.onReview(() => {
    reviews++;
    clock += 4_000;
    return { allowed: true };
  });
  await Promise.all(Array.from({ length: 50 }, () => rights.authorize(caller('alice'), restart())));
  expect(reviews).toBe(1);
  clock = 9_999;
  await rights.authorize(caller('alice'), restart());
  expect(reviews).toBe(1);
  clock = 10_000;
  await rights.authorize(caller('alice'), restart());
  expect(reviews).toBe(2);
  await rights.authorize(caller('alice'), restart('n2'));
  await rights.authorize(caller('alice'), restart(), 'force');
  await rights.authorize(caller('alice', ['dev']), restart());
  expect(reviews).toBe(5);
  for (let at = 0; at < 300; at++) await rights.authorize(caller(`user-${at}`), restart());
  expect(rights.cached).toBe(100);
});

test('R11: a flood of invented tokens neither grows the cache nor pushes out a token in use; tokens are not kept', async () => {
  const api = await startApi();
  const tokens = tokenReviewer({ client: api.client, capacity: 50, now: () => 0 });
  api.onReview((_, { token }) => (token === 'good' ? { authenticated: true, user: { username: 'alice', groups: ['dev'] } } : {}));
  expect(await tokens.review('good')).toEqual({ name: 'alice', uid: '', groups: ['dev'], extra: {} });
  for (let at = 0; at < 200; at++) expect(await tokens.review(`bad-${at}`)).toBeUndefined();
  const before = api.count(TOKEN);
  await tokens.review('good');
  expect(api.count(TOKEN)).toBe(before);
  expect(tokens.cached).toBe(51);
});

test('too many reviews at once are refused with 429 before anything happened', async () => {
  const api = await startApi();
  api.fault(TOKEN, 'silence');
  const tokens = tokenReviewer({ client: api.client, maxInFlight: 10, timeoutMs: 300 });
  const answers = await Promise.all(Array.from({ length: 30 }, (_, at) => statusOf(tokens.review(`t${at}`))));
  expect(answers.filter((answer) => answer.code === 429).length).toBe(20);
  expect(answers.filter((answer) => answer.code === 503).length).toBe(10);
});

test('the review says all about the caller and the request, and a refusal is worded as kube-apiserver does', async () => {
  const api = await startApi();
  const rights = authorizer({ client: api.client });
  const specs: Record<string, unknown>[] = [];
  api.onReview((_, spec) => {
    specs.push(spec);
    return { allowed: false };
  });
  const refusedRestart = await statusOf(rights.authorize(caller('x', ['dev']), restart()));
  expect(refusedRestart).toMatchObject({
    code: 403,
    reason: 'Forbidden',
    message:
      'nodes.infraops.michael.io "n1" is forbidden: User "x" cannot create resource "nodes/restart" in API group "infraops.michael.io" at the cluster scope',
    details: { group: 'infraops.michael.io', kind: 'nodes', name: 'n1' },
  });
  const metrics = await statusOf(rights.authorize(caller('<x>'), { kind: 'nonResource', path: '/metrics', verb: 'get' }));
  expect(metrics.message).toBe('forbidden: User "&lt;x&gt;" cannot get path "/metrics"');
  const list = await statusOf(rights.authorize(caller('x'), { ...restart('', ''), verb: 'list' } as RequestInfo));
  expect(list.message).toBe(
    'nodes.infraops.michael.io is forbidden: User "x" cannot list resource "nodes" in API group "infraops.michael.io" at the cluster scope',
  );
  expect(specs[0]).toEqual({
    user: 'x',
    uid: 'uid-x',
    groups: ['dev'],
    extra: { scopes: ['a', 'b'] },
    resourceAttributes: {
      group: 'infraops.michael.io',
      version: 'v1',
      resource: 'nodes',
      subresource: 'restart',
      name: 'n1',
      verb: 'create',
    },
  });
  expect(specs[1]).toMatchObject({ nonResourceAttributes: { path: '/metrics', verb: 'get' } });
});

test('system:masters needs no review from the front proxy, but does from a token', async () => {
  const api = await startApi();
  const rights = authorizer({ client: api.client });
  api.onReview(() => ({ allowed: false }));
  expect(await rights.allowed(caller('admin', ['system:masters']), restart())).toBe(true);
  expect(api.count(SAR)).toBe(0);
  expect(await rights.allowed(caller('admin', ['system:masters'], 'token'), restart())).toBe(false);
  api.onReview(() => ({ allowed: true, denied: true }));
  expect(await rights.allowed(caller('both'), restart())).toBe(false);
});

const json = (body: unknown) => ({ code: 201, body: JSON.stringify(body) });
const garbage: Record<string, Parameters<LoopbackApi['fault']>[1]> = {
  cut: 'cut',
  'a page of a proxy': { code: 200, body: '<html>login</html>', type: 'text/html' },
  'no body': { code: 200, body: '' },
  'half an answer': { code: 201, body: '{"kind":"SubjectAccessReview","status":{"allowed":true' },
  'an array': json([]),
  null: json(null),
  'no status': json({ kind: 'SubjectAccessReview' }),
  'another kind': json({ kind: 'Status', status: { allowed: true, authenticated: true, user: { username: 'a' } } }),
  'allowed as text': json({ kind: 'SubjectAccessReview', status: { allowed: 'true' } }),
  'authenticated as text': json({ kind: 'TokenReview', status: { authenticated: 'true', user: { username: 'a' } } }),
  'no user': json({ kind: 'TokenReview', status: { authenticated: true } }),
  'groups as text': json({ kind: 'TokenReview', status: { authenticated: true, user: { username: 'a', groups: 'system:masters' } } }),
  forbidden: { code: 403, body: '{"kind":"Status","reason":"Forbidden","code":403}' },
  'not found': { code: 404, body: 'not here' },
  overloaded: { code: 429, body: '{}' },
  'server error': { code: 500, body: '{}' },
  redirect: { code: 302, body: '' },
};

async function startHub(): Promise<{ api: LoopbackApi; hub: HubListener }> {
  const api = await startApi();
  api.put(AUTHENTICATION.collection, authenticationConfigMap(requestHeaderCa.cert));
  api.onReview((kind) => (kind === 'SubjectAccessReview' ? { allowed: true } : { authenticated: true, user: { username: 'alice' } }));
  const hub = await hubListener(api, makeServer(serverCa));
  cleanUp.push(() => hub.close());
  await eventually('the configuration', () => hub.frontProxy.current());
  return { api, hub };
}
const byProxy = (hub: HubListener): Promise<CallAnswer> =>
  call({ port: hub.port, ca: serverCa.cert, client: proxy, headers: ['X-Remote-User', 'bob'] });
const byToken = (hub: HubListener, token: string): Promise<CallAnswer> =>
  call({ port: hub.port, ca: serverCa.cert, headers: ['Authorization', `Bearer ${token}`] });

test('R12: garbage from either review is 503, without a side effect, and the check for readyz names it', async () => {
  const { api, hub } = await startHub();
  for (const [what, fault] of Object.entries(garbage)) {
    api.fault(SAR, fault);
    expect((await byProxy(hub)).code, what).toBe(503);
    expect((await hub.problems()).join(), what).toContain('SubjectAccessReview');
    api.fault(SAR, undefined);
    api.fault(TOKEN, fault);
    expect((await byToken(hub, what.replaceAll(' ', '-'))).code, what).toBe(503);
    expect((await hub.problems()).join(), what).toContain('TokenReview');
    api.fault(TOKEN, undefined);
    expect(await hub.problems(), what).toEqual([]);
  }
  expect(hub.sideEffects()).toBe(0);
  expect((await byProxy(hub)).code).toBe(200);
  expect((await byToken(hub, 'fine')).code).toBe(200);
});

test('R12: reviews that are never answered are 503 within 10 s, both together too', { timeout: 30_000 }, async () => {
  const { api, hub } = await startHub();
  api.fault(SAR, 'silence');
  const [proxied, token] = await Promise.all([byProxy(hub), byToken(hub, 'one')]);
  api.fault(TOKEN, 'silence');
  const both = await byToken(hub, 'two');
  for (const answer of [proxied, token, both]) {
    expect(answer.code).toBe(503);
    expect(answer.ms).toBeLessThan(10_000);
  }
  expect(hub.sideEffects()).toBe(0);
});

test('R12: with the API server gone every caller gets 503', async () => {
  const { api, hub } = await startHub();
  await api.close();
  cleanUp.splice(0, 1);
  expect((await byProxy(hub)).code).toBe(503);
  expect((await byToken(hub, 'any')).code).toBe(503);
  expect(hub.sideEffects()).toBe(0);
  expect((await hub.problems()).join()).toContain('SubjectAccessReview');
});
