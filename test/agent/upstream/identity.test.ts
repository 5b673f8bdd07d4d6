import fc from 'fast-check';
import { expect, test } from 'vitest';
import { impersonation } from '../../../src/agent/upstream/identity.ts';
import type { Caller } from '../../../src/tunnel/caller.ts';

const who = (more: Partial<Caller>): Caller => ({ name: 'jane', uid: '', groups: [], extra: {}, ...more });
const utf8 = (latin1: string | undefined) => Buffer.from(latin1 ?? '', 'latin1').toString('utf8');
const values = (headers: readonly string[], name: string) => headers.filter((_, at) => at % 2 === 1 && headers[at - 1] === name).map(utf8);

test('user, uid, groups and extra become headers of their own, in bytes of UTF-8', () => {
  const headers = impersonation(who({ name: 'jöns', uid: 'u1', groups: ['a, b', 'ü'], extra: { 'example.com/x y': ['1', '2,3'] } }), []);
  expect(headers.map(utf8)).toEqual([
    'impersonate-user',
    'jöns',
    'impersonate-uid',
    'u1',
    'impersonate-group',
    'a, b',
    'impersonate-group',
    'ü',
    'impersonate-extra-example.com%2Fx%20y',
    '1',
    'impersonate-extra-example.com%2Fx%20y',
    '2,3',
  ]);
});

test.each([
  'system:admin',
  'system:kube-controller-manager',
  'system:kube-scheduler',
  'system:apiserver',
  'system:node:n1',
  'system:serviceaccount:kube-system',
  'system:serviceaccount:kube-system:default',
  'system:serviceaccount:a:b:c',
  'system:serviceaccount::',
  'system:',
  'system:anonymous2',
])('the user %s has rights by its name, and is not mapped unless that is allowed', (name) => {
  expect(() => impersonation(who({ name }), [])).toThrow(expect.objectContaining({ code: 403 }));
  expect(() => impersonation(who({ name }), [`${name}x`])).toThrow();
  expect(values(impersonation(who({ name }), [name]), 'impersonate-user')).toEqual([name]);
});

test.each([
  'system:serviceaccount:dev:default',
  'system:serviceaccount:kube-systemd:default',
  'system:anonymous',
  'systemd',
  'admin',
  'System:admin',
])('the user %s is mapped', (name) => {
  expect(values(impersonation(who({ name }), []), 'impersonate-user')).toEqual([name]);
});

test('groups that carry rights of a component stay behind; those of every user go along', () => {
  const powerful = [
    'system:masters',
    'system:nodes',
    'system:bootstrappers',
    'system:monitoring',
    'system:serviceaccounts:a:b',
    'system:serviceaccounts:kube-system',
    'system:',
    'system:authenticated2',
  ];
  const plain = [
    'system:authenticated',
    'system:unauthenticated',
    'system:serviceaccounts',
    'system:serviceaccounts:dev',
    'dev',
    'xsystem:masters',
  ];
  expect(values(impersonation(who({ groups: [...powerful, ...plain] }), []), 'impersonate-group')).toEqual(plain);
  expect(values(impersonation(who({ groups: powerful }), ['system:nodes']), 'impersonate-group')).toEqual(['system:nodes']);
});

test.each([
  ['no name', who({ name: '' })],
  ['a line end in the name', who({ name: 'a\r\nimpersonate-group: system:masters' })],
  ['a NUL in the name', who({ name: 'a\0' })],
  ['a control character in the uid', who({ uid: '\n' })],
  ['a control character in a group', who({ groups: ['a', 'b\n'] })],
  ['a control character of Unicode', who({ groups: ['\u0085'] })],
  ['a control character in an extra value', who({ extra: { a: ['\r'] } })],
  ['a control character in an extra key', who({ extra: { 'a\n': ['b'] } })],
])('%s: nobody is impersonated', (_what, caller) => {
  expect(() => impersonation(caller, [])).toThrow(expect.objectContaining({ code: 403 }));
});

test('whatever the caller is called, the headers are headers, and the caller is in them as it is', () => {
  const text = fc.string({ unit: 'grapheme' });
  fc.assert(
    fc.property(
      text,
      fc.array(text, { maxLength: 5 }),
      fc.dictionary(text, fc.array(text, { maxLength: 3 }), { noNullPrototype: true }),
      (name, groups, extra) => {
        let headers: string[];
        try {
          headers = impersonation({ name, uid: '', groups, extra }, []);
        } catch (error) {
          expect(error).toMatchObject({ code: 403 });
          return;
        }
        for (let at = 0; at < headers.length; at += 2) {
          expect(headers[at]).toMatch(/^impersonate-(user|group|extra-[A-Za-z0-9!#$%&'*+.^_`|~-]*)$/);
          expect(utf8(headers[at + 1])).not.toMatch(/\p{Cc}/u);
        }
        expect(values(headers, 'impersonate-user')).toEqual([name]);
        expect(values(headers, 'impersonate-group')).toEqual(groups.filter((group) => !group.startsWith('system:')));
        for (const [key, list] of Object.entries(extra)) {
          const found = headers.filter((_, at) => at % 2 === 1 && decodeURIComponent(headers[at - 1] ?? '') === `impersonate-extra-${key}`);
          expect(found.map(utf8)).toEqual(list);
        }
      },
    ),
  );
});
