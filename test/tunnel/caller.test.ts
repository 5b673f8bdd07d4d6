import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Caller, decodeCaller, encodeCaller } from '../../src/tunnel/caller.ts';
import { CALLER_HEADERS } from '../../src/tunnel/protocol.ts';

const text = fc.string({ unit: 'grapheme', minLength: 1 });
/** Keys as kube-apiserver gives them: lower case. */
const key = text
  .map((some) => some.toLowerCase())
  .filter((some) => some !== '' && some.toLowerCase() === some && !Object.hasOwn(Object.prototype, some));
const credential = fc.oneof(fc.record({ token: text }), fc.record({ certificate: text, privateKey: text }));
const caller: fc.Arbitrary<Caller> = fc.record(
  {
    name: text,
    uid: fc.string({ unit: 'grapheme' }),
    groups: fc.array(text, { maxLength: 30 }),
    extra: fc.dictionary(key, fc.array(text, { minLength: 1, maxLength: 5 }), { maxKeys: 5, noNullPrototype: true }),
    credential,
  },
  { requiredKeys: ['name', 'uid', 'groups', 'extra'] },
);

test('what goes in comes out, in headers that HTTP/2 carries', () => {
  fc.assert(
    fc.property(caller, (who) => {
      const headers = encodeCaller(who);
      for (let at = 0; at < headers.length; at += 2) {
        expect(headers[at]).toMatch(/^fairlead-[a-z0-9!#$%&'*+.^_`|~-]+$/);
        expect(headers[at + 1]).toMatch(/^[\x21-\x7e]*$/);
      }
      expect(decodeCaller(headers)).toEqual(who);
      // What stands around it does not matter.
      expect(decodeCaller(['accept', '*/*', ...headers, 'impersonate-user', 'admin', 'x-remote-user', 'admin'])).toEqual(who);
    }),
  );
});

test('1,000 groups of 300 bytes travel, and no header is longer than 32 KiB', () => {
  const groups = Array.from({ length: 1_000 }, (_, at) => `${at}ü,${'g'.repeat(300)}`);
  const headers = encodeCaller({ name: 'jane', uid: '', groups, extra: {} });
  expect(Math.max(...headers.map((part) => part.length))).toBeLessThanOrEqual(32_768);
  expect(decodeCaller(headers).groups).toEqual(groups);
});

test('a list may be joined again on the way: nghttp2 and others put a space behind the comma', () => {
  expect(decodeCaller([CALLER_HEADERS.user, 'jane', CALLER_HEADERS.group, 'a, b%2C c,d']).groups).toEqual(['a', 'b, c', 'd']);
});

test('a group without a name is not sent', () => {
  expect(() => encodeCaller({ name: 'jane', uid: '', groups: ['a', ''], extra: {} })).toThrow('group');
});

const { user, uid, group, token, certificate, privateKey, extraPrefix } = CALLER_HEADERS;
test.each([
  ['nobody', []],
  ['an empty name', [user, '']],
  ['two names', [user, 'jane', user, 'admin']],
  ['a name that cannot be decoded', [user, '%E0%A4']],
  ['half an escape', [user, 'jane%']],
  ['an escape that is none', [user, '%zz']],
  ['bytes that are no UTF-8', [user, '%ff%fe']],
  ['two uids', [user, 'jane', uid, '1', uid, '2']],
  ['a group that cannot be decoded', [user, 'jane', group, 'a,%C3']],
  ['an empty group', [user, 'jane', group, 'a,,b']],
  ['an empty list of groups', [user, 'jane', group, '']],
  ['an extra field that cannot be decoded', [user, 'jane', `${extraPrefix}a`, '%80']],
  ['an extra field whose name cannot be decoded', [user, 'jane', `${extraPrefix}%c3`, 'a']],
  ['an extra field without a name', [user, 'jane', extraPrefix, 'a']],
  ['an extra field that is a property of every object', [user, 'jane', `${extraPrefix}__proto__`, 'a']],
  ['another such', [user, 'jane', `${extraPrefix}constructor`, 'a']],
  ['two tokens', [user, 'jane', token, 'a', token, 'b']],
  ['an empty token', [user, 'jane', token, '']],
  ['a token and a certificate', [user, 'jane', token, 'a', certificate, 'b', privateKey, 'c']],
  ['a token and a key', [user, 'jane', token, 'a', privateKey, 'c']],
  ['a certificate without its key', [user, 'jane', certificate, 'b']],
  ['a key without its certificate', [user, 'jane', privateKey, 'b']],
  ['two certificates', [user, 'jane', certificate, 'a', certificate, 'b', privateKey, 'c']],
])('%s: nobody is named', (_what, headers) => {
  expect(() => decodeCaller(headers)).toThrow();
});

test('any headers name somebody whole, or nobody', () => {
  const name = fc.constantFrom(
    user,
    uid,
    group,
    token,
    certificate,
    privateKey,
    `${extraPrefix}a`,
    `${extraPrefix}%`,
    extraPrefix,
    'fairlead-other',
    'accept',
  );
  const value = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom('%', 'a', '0', 'c', '3', ',', ' ') }));
  fc.assert(
    fc.property(fc.array(fc.tuple(name, value), { maxLength: 8 }), (pairs) => {
      let who: Caller;
      try {
        who = decodeCaller(pairs.flat());
      } catch {
        return;
      }
      const sent = (of: string) => pairs.filter(([one]) => one === of).length;
      expect(who.name).not.toBe('');
      expect(who.groups).not.toContain('');
      for (const once of [user, uid, token, certificate, privateKey]) expect(sent(once)).toBeLessThan(2);
      if (sent(token) > 0) expect(who.credential).toHaveProperty('token');
      if (sent(certificate) + sent(privateKey) > 0) expect(who.credential).toHaveProperty('privateKey');
    }),
    { numRuns: 2_000 },
  );
});
