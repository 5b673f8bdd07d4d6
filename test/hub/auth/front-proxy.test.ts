import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Caller } from '../../../src/hub/auth/caller.ts';
import type { Issued } from '../../../src/hub/certificates/x509.ts';
import { call } from './call.ts';
import { eventually } from './eventually.ts';
import { AUTHENTICATION, authenticationConfigMap, type HubListener, hubListener } from './hub-listener.ts';
import { type LoopbackApi, loopbackApi } from './loopback-api.ts';
import { makeCa, makeClient, makeServer } from './pki.ts';

const requestHeaderCa = makeCa('front-proxy-ca');
const clientCa = makeCa('kubernetes');
const serverCa = makeCa('server-ca');
const hour = 3_600_000;

let api: LoopbackApi;
let hub: HubListener;

beforeAll(async () => {
  api = await loopbackApi();
  api.put(AUTHENTICATION.collection, authenticationConfigMap(requestHeaderCa.cert, { 'client-ca-file': clientCa.cert }));
  api.onReview((kind, spec) => {
    if (kind === 'SubjectAccessReview') return { allowed: true };
    return spec['token'] === 'alices'
      ? { authenticated: true, user: { username: 'alice', uid: '1', groups: ['dev'] } }
      : { authenticated: false };
  });
  hub = await hubListener(api, makeServer(serverCa));
  await eventually('the configuration', () => hub.frontProxy.current());
});
afterAll(async () => {
  await hub.close();
  await api.close();
});

const certificates: Record<string, Issued | undefined> = {
  'no certificate': undefined,
  'a certificate of client-ca-file': makeClient(clientCa, 'front-proxy-client', { organizations: ['system:masters'] }),
  'EKU serverAuth only': makeClient(requestHeaderCa, 'front-proxy-client', { usages: ['serverAuth'] }),
  'another common name': makeClient(requestHeaderCa, 'front-proxy-client2'),
  expired: makeClient(requestHeaderCa, 'front-proxy-client', { notAfter: new Date(Date.now() - hour) }),
  'a CA of the same name': makeClient(makeCa('front-proxy-ca'), 'front-proxy-client'),
};
const claims: Record<string, string[]> = {
  user: ['X-Remote-User', 'admin'],
  group: ['X-Remote-User', 'admin', 'X-Remote-Group', 'system:masters'],
  uid: ['X-Remote-User', 'admin', 'X-Remote-Uid', '0'],
  extra: ['X-Remote-User', 'admin', 'X-Remote-Extra-Scopes', 'all'],
};

for (const [certificate, client] of Object.entries(certificates)) {
  for (const [claim, headers] of Object.entries(claims)) {
    test(`R1: ${certificate} with X-Remote-* (${claim}) is nobody, and nobody but its token`, async () => {
      const before = hub.sideEffects();
      const target = { port: hub.port, ca: serverCa.cert, ...(client && { client }) };
      const bare = await call({ ...target, headers });
      expect(bare.code).toBe(401);
      expect(bare.body['reason']).toBe('Unauthorized');
      const wrongToken = await call({ ...target, headers: [...headers, 'Authorization', 'Bearer guessed'] });
      expect(wrongToken.code).toBe(401);
      expect(hub.sideEffects()).toBe(before);
      const own = await call({ ...target, headers: [...headers, 'Authorization', 'Bearer alices'] });
      expect(own.body as Caller).toEqual({
        user: { name: 'alice', uid: '1', groups: ['dev', 'system:authenticated'], extra: {} },
        via: 'token',
      });
    });
  }
}

test('the front proxy itself is believed, with and without an intermediate CA', async () => {
  const intermediate = makeCa('front-proxy-intermediate', requestHeaderCa);
  const below = makeClient(intermediate, 'front-proxy-client');
  for (const client of [makeClient(requestHeaderCa, 'front-proxy-client'), { cert: below.cert + intermediate.cert, key: below.key }]) {
    const headers = [
      'X-Remote-User',
      'bob',
      'X-Remote-Group',
      'a, b',
      'X-Remote-Group',
      'c',
      'X-Remote-Uid',
      '7',
      'X-Remote-Extra-Scopes',
      's',
    ];
    const answer = await call({ port: hub.port, ca: serverCa.cert, client, headers });
    expect(answer.body as Caller).toEqual({
      user: { name: 'bob', uid: '7', groups: ['a, b', 'c', 'system:authenticated'], extra: { scopes: ['s'] } },
      via: 'frontProxy',
    });
  }
});

test('an intermediate that was not sent, or that is no CA, gives no trust', async () => {
  const intermediate = makeCa('front-proxy-intermediate', requestHeaderCa);
  const notCa = makeClient(requestHeaderCa, 'not-a-ca');
  const under = makeClient(notCa, 'front-proxy-client');
  for (const client of [makeClient(intermediate, 'front-proxy-client'), { cert: under.cert + notCa.cert, key: under.key }]) {
    expect((await call({ port: hub.port, ca: serverCa.cert, client, headers: ['X-Remote-User', 'bob'] })).code).toBe(401);
  }
});

test('a user named system:anonymous does not become authenticated', async () => {
  const client = makeClient(requestHeaderCa, 'front-proxy-client');
  const headers = ['X-Remote-User', 'system:anonymous', 'X-Remote-Group', 'system:unauthenticated'];
  const answer = await call({ port: hub.port, ca: serverCa.cert, client, headers });
  expect((answer.body as Caller).user.groups).toEqual(['system:unauthenticated']);
});

test('an odd Authorization header is no token', async () => {
  const before = api.count('tokenreviews');
  for (const value of ['alices', 'Basic alices', 'Bearer', 'Bearer  alices', 'Bearer\u00e9 alices', 'Bearer alic\u00e9s']) {
    expect((await call({ port: hub.port, ca: serverCa.cert, headers: ['Authorization', value] })).code).toBe(401);
  }
  expect(api.count('tokenreviews')).toBe(before);
});
