import { expect, test } from 'vitest';
import type { UserInfo } from '../../../src/hub/auth/user.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { ANN, AS_ANN, asUser, KINDS, startDoors, startPair } from './attack-pair.ts';
import { agentStream, identityHeaders } from './attack-tools.ts';

const clean = cleanUp();

/** Eight forms in which a caller may try to be somebody else. */
const IMPERSONATION: ReadonlyArray<[what: string, headers: readonly string[], connection?: string]> = [
  ['lower case', ['impersonate-user: root']],
  ['upper case', ['IMPERSONATE-USER: root', 'IMPERSONATE-GROUP: system:masters']],
  ['mixed case, repeated', ['ImPeRsOnAtE-GrOuP: system:masters', 'iMpErSoNaTe-gRoUp: admins']],
  ['empty', ['Impersonate-User:', 'Impersonate-Group: ']],
  ['a name of the future', ['Impersonate-Future: root']],
  ['extra fields', ['Impersonate-Extra-%2F: root', 'Impersonate-Extra-Scope: everything']],
  ['uid alone', ['Impersonate-Uid: 0']],
  ['listed by Connection', ['Impersonate-User: root'], 'Impersonate-User'],
];
/** The same by the names of the front proxy and of the tunnel; these are not refused but have no effect. */
const OTHER: ReadonlyArray<[what: string, headers: readonly string[], connection?: string]> = [
  ["the tunnel's names", ['Fairlead-User: root', 'FAIRLEAD-GROUP: system:masters', 'fairlead-extra-x: y', 'fairlead-child-token: t']],
  ["the tunnel's method", ['fairlead-method: DELETE', 'fairlead-status: 200', 'fairlead-peer-cluster: other']],
  ["the front proxy's names", ['X-Remote-User: root', 'x-remote-group: system:masters', 'X-REMOTE-EXTRA-SCOPE: all', 'X-Remote-Uid: 0']],
  ['credentials', ['Authorization: Bearer of-the-parent', 'Proxy-Authorization: Basic of-the-parent']],
  ["the mapping's own names, to be lost at a hop", ['X-Odd: 1'], 'fairlead-user, impersonate-user, impersonate-group, authorization'],
];

test('R4: Impersonate-* of a caller, 8 forms by HTTP, WebSocket and SPDY: through the parent the child sees the mapped user alone, past it the caller gets 400 and the child nothing', async () => {
  const { to, seen, send } = await startPair(clean);
  let checked = 0;
  for (const [form, headers, listed] of IMPERSONATION) {
    for (const [kind, method, more, connection, code] of KINDS) {
      for (const direct of [false, true]) {
        seen.length = 0;
        const got = await send(`${method} ${to.direct('/api')}`, [
          `Connection: ${[connection, listed].filter(Boolean).join(', ')}`,
          ...more,
          asUser(ANN),
          ...(direct ? ['X-Test-Direct: 1'] : []),
          ...headers,
        ]);
        const what = `${form}, ${kind}, ${direct ? 'direct' : 'parent'}`;
        if (direct) {
          expect(got, what).toMatchObject({ code: 400, body: expect.stringContaining('"kind":"Status"') });
          expect(seen, what).toHaveLength(0);
        } else {
          expect(got.code, what).toBe(code);
          expect(seen.map(identityHeaders), what).toEqual([AS_ANN]);
        }
        checked++;
      }
    }
  }
  expect(checked).toBe(48);
});

test('R4: other ways to name a user: the child sees the mapped user alone, and the method that was sent', async () => {
  const { to, seen, send } = await startPair(clean);
  for (const [form, headers, listed] of OTHER) {
    for (const [kind, method, more, connection, code] of KINDS) {
      for (const direct of [false, true]) {
        seen.length = 0;
        const got = await send(`${method} ${to.direct('/api')}`, [
          `Connection: ${[connection, listed].filter(Boolean).join(', ')}`,
          ...more,
          asUser(ANN),
          ...(direct ? ['X-Test-Direct: 1'] : []),
          ...headers,
        ]);
        const what = `${form}, ${kind}, ${direct ? 'direct' : 'parent'}`;
        expect(got.code, what).toBe(code);
        expect(seen.map(identityHeaders), what).toEqual([AS_ANN]);
        expect(
          seen.map((request) => request.method),
          what,
        ).toEqual([method]);
      }
    }
  }
});

/** Identities of the parent that must not become one of the child, or become another. */
const UNMAPPABLE: ReadonlyArray<[what: string, user: Partial<typeof ANN> | { extra: Record<string, string[]> }]> = [
  ['no name', { name: '' }],
  ['a line break in the name', { name: 'ann\r\nImpersonate-Group: system:masters' }],
  ['NUL in the name', { name: 'ann\u0000' }],
  ['a control character of Unicode in the name', { name: 'ann\u0085' }],
  ['a blank before the name, which the child would lose', { name: ' root' }],
  ['a blank behind the name', { name: 'root ' }],
  ['a component', { name: 'system:kube-controller-manager' }],
  ['a node', { name: 'system:node:n1' }],
  ['the aggregator', { name: 'system:kube-aggregator', groups: ['system:masters'] }],
  ['a service account with too many parts', { name: 'system:serviceaccount:a:b:c' }],
  ['a line break in the uid', { uid: '1\n2' }],
  ['a group without a name', { groups: [''] }],
  ['a blank before a powerful group', { groups: [' system:masters'] }],
  ['a blank behind a group', { groups: ['admins '] }],
  ['a line break in a group', { groups: ['dev\r\nImpersonate-User: root'] }],
  ['DEL in a group', { groups: ['a\u007f'] }],
  ['a line break in an extra value', { extra: { scope: ['a\nb'] } }],
  ['a blank before an extra value', { extra: { scope: [' a'] } }],
  ['a control character in an extra key', { extra: { 'a\u0001': ['b'] } }],
  ['an extra key of every object', { extra: JSON.parse('{"__proto__": ["b"]}') as Record<string, string[]> }],
  ['an extra key without a name', { extra: { '': ['b'] } }],
];

test.each(UNMAPPABLE)('R5: %s: refused, and no byte at the child', async (_what, changed) => {
  let user: UserInfo = { ...ANN, ...changed };
  const { to, seen, send, bytes } = await startDoors(clean, () => user);
  for (const [kind, method, more, connection] of KINDS) {
    const got = await send(`${method} ${to.direct('/api')}`, [`Connection: ${connection}`, ...more]);
    expect([403, 500], kind).toContain(got.code);
    expect(got.body).toContain('"kind":"Status"');
  }
  expect(bytes.connections()).toBe(0);
  expect(seen).toHaveLength(0);
  // Only that caller is refused.
  user = ANN;
  expect((await send(`GET ${to.direct('/api')}`, ['Connection: close'])).code).toBe(200);
  expect(seen.map(identityHeaders)).toEqual([AS_ANN]);
});

test.each([
  ['10,000 groups', 10_000],
  ['100,000 groups', 100_000],
])('R5: %s: refused as a whole, never with some of them, and the tunnel carries the others on', async (_what, count) => {
  const many = { ...ANN, groups: Array.from({ length: count }, (_, at) => `a-group-with-a-name-${at}`) };
  let user: UserInfo = many;
  const { to, seen, send } = await startDoors(clean, () => user);
  const tunnel = to.tunnel();
  let ended: string | undefined;
  tunnel.closed.then(
    (why) => {
      ended = why;
    },
    () => undefined,
  );
  for (const [kind, method, more, connection] of KINDS) {
    user = many;
    const got = await send(`${method} ${to.direct('/api')}`, [`Connection: ${connection}`, ...more]);
    expect(got.code, kind).toBeGreaterThanOrEqual(400);
    user = ANN;
    expect((await send(`GET ${to.direct('/api')}`, ['Connection: close'])).code).toBe(200);
  }
  expect(seen.map(identityHeaders)).toEqual(KINDS.map(() => AS_ANN));
  expect(ended).toBeUndefined();
});

test.each([
  ['no cluster', { child: (): undefined => undefined }, 503],
  [
    'a credential that cannot be read',
    {
      child: () => ({
        server: 'https://127.0.0.1:1',
        ca: undefined,
        authorization: () => Promise.reject(new Error('SECRET-PATH cannot be read')),
      }),
    },
    502,
  ],
  [
    'a CA that is none',
    { child: () => ({ server: 'https://127.0.0.1:1', ca: 'no PEM', authorization: async () => 'Bearer agent-token' }) },
    502,
  ],
] as const)('R5: an agent with %s: a Status, and no byte at the child', async (_what, upstream, code) => {
  // The agent's own log may say why.
  const { to, send, bytes } = await startDoors(clean, () => ANN, { upstream: { ...upstream, onError: () => undefined } });
  for (const [kind, method, more, connection] of KINDS) {
    const got = await send(`${method} ${to.direct('/api')}`, [`Connection: ${connection}`, ...more]);
    expect(got, kind).toMatchObject({ code, body: expect.stringContaining('"kind":"Status"') });
    expect(got.text).not.toContain('SECRET-PATH');
  }
  expect(bytes.connections()).toBe(0);
});

test.each([
  ['no user', []],
  ['an empty user', ['fairlead-user', '']],
  ['two users', ['fairlead-user', 'ann', 'fairlead-user', 'root']],
  ['two uids', ['fairlead-user', 'ann', 'fairlead-uid', '1', 'fairlead-uid', '2']],
  ['a broken escape in the user', ['fairlead-user', 'a%zz']],
  ['bytes that are no UTF-8', ['fairlead-user', '%ff%fe']],
  ['a broken escape in a group', ['fairlead-user', 'ann', 'fairlead-group', 'a,%']],
  ['an empty group', ['fairlead-user', 'ann', 'fairlead-group', 'a,,b']],
  ['a broken escape in an extra key', ['fairlead-user', 'ann', 'fairlead-extra-%f', 'a']],
  ['an extra key of every object', ['fairlead-user', 'ann', 'fairlead-extra-constructor', 'a']],
  ['two tokens', ['fairlead-user', 'ann', 'fairlead-child-token', 'a', 'fairlead-child-token', 'b']],
  ['a token and a certificate', ['fairlead-user', 'ann', 'fairlead-child-token', 'a', 'fairlead-child-certificate', 'b']],
  ['a certificate without its key', ['fairlead-user', 'ann', 'fairlead-child-certificate', 'b']],
  ['a certificate that is none', ['fairlead-user', 'ann', 'fairlead-child-certificate', 'b', 'fairlead-child-private-key', 'c']],
  ['a token with a line break', ['fairlead-user', 'ann', 'fairlead-child-token', 'a%0d%0aImpersonate-User:%20root']],
])('R5: a tunnel that says %s: the agent refuses, and no request reaches the child', async (_what, headers) => {
  const { to, seen, bytes } = await startPair(clean);
  const stream = await agentStream(to, headers);
  expect([400, 403, 502]).toContain(stream.code);
  expect(stream.body).toContain('"kind":"Status"');
  expect(seen).toHaveLength(0);
  expect(bytes.text()).toBe('');
});
