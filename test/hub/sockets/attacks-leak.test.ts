import { createServer } from 'node:https';
import { expect, test } from 'vitest';
import { parseTargetPattern } from '../../../src/agent/upstream/settings.ts';
import type { UserInfo } from '../../../src/hub/auth/user.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { limit, times } from '../../support/counts.ts';
import { listening } from '../../support/socket-pair.ts';
import { makeCa, makeServer } from '../auth/pki.ts';
import { ANN, KINDS, startDoors } from './attack-pair.ts';
import { identityHeaders, recordBytes } from './attack-tools.ts';

const clean = cleanUp();

/** A generator of numbers that is the same in every run (mulberry32). */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** What callers and the front proxy say about themselves; every value holds the word that must be seen nowhere. */
const SAID = [
  'X-Remote-User: CANARY',
  'x-remote-group: CANARY',
  'X-REMOTE-EXTRA-Scope: CANARY',
  'X-Remote-Uid: CANARY',
  'Impersonate-User: CANARY',
  'impersonate-group: CANARY',
  'Impersonate-Extra-Scope: CANARY',
  'IMPERSONATE-FUTURE: CANARY',
  'Authorization: Bearer CANARY',
  'authorization: Basic CANARY',
  'Proxy-Authorization: Bearer CANARY',
  'Fairlead-User: CANARY',
  'fairlead-child-token: CANARY',
  'FAIRLEAD-EXTRA-Scope: CANARY',
];

test('R3: in mixed calls no identity of the parent, and no credential for it, reaches a child or another target', {
  timeout: limit(60_000, 900_000),
}, async () => {
  const CALLS = times(300, 10_000);
  const pick = numbers(3);
  const ca = makeCa('target-ca');
  const pair = makeServer(ca);
  const atTarget: string[][] = [];
  const target = createServer({ key: pair.key, cert: pair.cert }, (got, response) => {
    atTarget.push(identityHeaders(got));
    response.end('answered');
  });
  target.on('upgrade', (got, socket) => {
    atTarget.push(identityHeaders(got));
    socket.on('error', () => undefined);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${got.headers.upgrade}\r\n\r\n`);
  });
  const targetPort = await listening(target);
  const targetBytes = recordBytes(target);
  clean.after(async () => {
    target.closeAllConnections();
    await new Promise<void>((resolve) => target.close(() => resolve()));
  });

  let user: UserInfo = ANN;
  const { to, send, seen, bytes } = await startDoors(clean, () => user, {
    upstream: { allowTargets: [parseTargetPattern(`127.0.0.1:${targetPort}`)], targetCA: () => ca.cert },
  });
  let withToken = 0;
  for (let call = 0; call < CALLS; call++) {
    const [kind, method, more, connection, code] = KINDS[pick(4)] ?? KINDS[0] ?? [];
    if (kind === undefined) throw new Error('no kinds');
    const brought = pick(5) === 0;
    if (brought) withToken++;
    user = { ...ANN, groups: ['dev', 'system:masters'], extra: { ...ANN.extra, ...(brought && { 'clusternet-token': ['brought'] }) } };
    const path = pick(2) === 0 ? to.direct('/api') : to.direct('').replace('/direct', `/https/127.0.0.1:${targetPort}/api`);
    const said = SAID.filter(() => pick(2) === 0);
    const listed = pick(3) === 0 ? ', x-remote-user, authorization, impersonate-user' : '';
    const got = await send(`${method} ${path}`, [`Connection: ${connection}${listed}`, ...(more ?? []), ...said]);
    expect(got.code, `${kind} ${path} ${said}`).toBe(code);
    expect(got.text).not.toMatch(/^(fairlead|impersonate|x-remote)-/im);
  }
  expect(seen.length + atTarget.length).toBe(CALLS);
  const [mapped, others] = [new Set(seen.map((got) => identityHeaders(got).join('\n'))), new Set(atTarget.map((got) => got.join('\n')))];
  expect([...mapped].sort()).toEqual([
    [
      'authorization: Bearer agent-token',
      'impersonate-user: ann',
      'impersonate-uid: u-1',
      'impersonate-group: dev',
      'impersonate-extra-scope: a',
      'impersonate-extra-scope: b',
    ].join('\n'),
    'authorization: Bearer brought',
  ]);
  // Another target sees what the caller brought for it, and otherwise nobody.
  expect([...others].sort()).toEqual(['', 'authorization: Bearer brought']);
  expect(withToken).toBeGreaterThan(0);
  for (const { text } of [bytes, targetBytes]) {
    expect(text()).toContain('GET /api');
    expect(text()).not.toMatch(/CANARY|system:masters|clusternet-|fairlead-|x-remote-/i);
  }
  expect(targetBytes.text()).not.toMatch(/agent-token|impersonate/i);
});

test('R6: powerful groups and users of the parent are nobody in the child unless the agent lists them', async () => {
  let user: UserInfo = ANN;
  const powerful = [
    'system:masters',
    'system:nodes',
    'system:kubelet-api-admin',
    'system:monitoring',
    'system:bootstrappers',
    'system:serviceaccounts:a:b',
  ];
  const plain = ['system:authenticated', 'system:serviceaccounts', 'system:serviceaccounts:edge', 'System:Masters', 'dev'];
  const strict = await startDoors(clean, () => user);
  for (const [kind, method, more, connection, code] of KINDS) {
    user = { name: 'kubernetes-admin', uid: '', groups: [...powerful, ...plain], extra: {} };
    const before = strict.seen.length;
    expect((await strict.send(`${method} ${strict.to.direct('/api')}`, [`Connection: ${connection}`, ...more])).code, kind).toBe(code);
    expect(strict.seen.slice(before).map(identityHeaders)).toEqual([
      ['authorization: Bearer agent-token', 'impersonate-user: kubernetes-admin', ...plain.map((group) => `impersonate-group: ${group}`)],
    ]);
    // kube-apiserver's own identity, with which it reads discovery.
    for (const name of ['system:kube-aggregator', 'system:apiserver', 'system:admin']) {
      user = { name, uid: '', groups: ['system:masters'], extra: {} };
      expect((await strict.send(`${method} ${strict.to.direct('/api')}`, [`Connection: ${connection}`, ...more])).code, kind).toBe(403);
    }
  }
  expect(strict.seen).toHaveLength(KINDS.length);
  expect(strict.bytes.text()).not.toContain('system:masters');

  const open = await startDoors(clean, () => user, { upstream: { allowIdentities: ['system:masters', 'system:admin'] } });
  user = { name: 'system:admin', uid: '', groups: ['system:masters', 'system:nodes'], extra: {} };
  expect((await open.send(`GET ${open.to.direct('/api')}`, ['Connection: close'])).code).toBe(200);
  expect(open.seen.map(identityHeaders)).toEqual([
    ['authorization: Bearer agent-token', 'impersonate-user: system:admin', 'impersonate-group: system:masters'],
  ]);
});
