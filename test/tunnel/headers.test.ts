import fc from 'fast-check';
import { expect, test } from 'vitest';
import { announcesBody, endToEnd, headerValue } from '../../src/tunnel/headers.ts';
import { isWithheld, withoutWithheld } from '../../src/tunnel/withheld.ts';

const HOP = [
  'Connection',
  'Proxy-Connection',
  'Keep-Alive',
  'Transfer-Encoding',
  'Upgrade',
  'HTTP2-Settings',
  'TE',
  'Proxy-Authenticate',
  'Proxy-Authorization',
];

test('headers of one connection end at it, in any spelling; the others keep their order, values and repetitions', () => {
  const name = fc.constantFrom(...HOP, ...HOP.map((one) => one.toLowerCase()), 'X-A', 'x-a', 'Accept', 'trailer', ':path', ':status');
  fc.assert(
    fc.property(fc.array(fc.tuple(name, fc.constantFrom('1', 'a, b', 'Äé', ''))), (pairs) => {
      const kept = pairs.filter(([one]) => /^(x-a|accept|trailer)$/i.test(one)).map(([one, value]) => [one.toLowerCase(), value]);
      expect(endToEnd(pairs.flat())).toEqual(kept.flat());
    }),
  );
});

test.each([
  ['X-Hop', ['x-hop', '1', 'accept', '*/*'], ['accept', '*/*']],
  ['close, x-hop ,X-B', ['x-hop', '1', 'x-b', '2', 'x-c', '3'], ['x-c', '3']],
  [' , ,', ['x-c', '3'], ['x-c', '3']],
  ['close', ['close', '1'], ['close', '1']],
])('what Connection: %s lists ends here too', (listed, rest, kept) => {
  expect(endToEnd(['Connection', listed, ...rest])).toEqual(kept);
  expect(endToEnd([...rest, 'connection', listed])).toEqual(kept);
});

test('each of several Connection headers counts', () => {
  expect(endToEnd(['Connection', 'x-a', 'x-a', '1', 'X-B', '2', 'Connection', 'x-b', 'x-c', '3'])).toEqual(['x-c', '3']);
});

test('those that are to be dropped are told by lower-case name and value', () => {
  expect(endToEnd(['X-A', '1', 'X-A', '2', 'X-B', '1'], (name, value) => name === 'x-a' && value === '2')).toEqual([
    'x-a',
    '1',
    'x-b',
    '1',
  ]);
});

test('the first value of a header', () => {
  expect(headerValue(['A', '1', 'a', '2'], 'a')).toBe('1');
  expect(headerValue(['b', 'a'], 'a')).toBeUndefined();
});

test.each([
  [[], false],
  [['Content-Length', '0'], false],
  [['content-length', ' 0 '], false],
  [['Content-Length', '1'], true],
  [['Content-Length', '00'], true],
  [['Transfer-Encoding', 'chunked'], true],
  [['Content-Length', '0', 'Transfer-Encoding', 'chunked'], false],
])('%j announces a body: %s', (headers, body) => {
  expect(announcesBody(headers)).toBe(body);
});

test('who asks is never told by headers that came with the request', () => {
  for (const name of [
    'authorization',
    'host',
    'expect',
    'x-remote-user',
    'x-remote-extra-a',
    'impersonate-user',
    'impersonate-',
    'fairlead-user',
    'fairlead-x',
  ])
    expect(isWithheld(name), name).toBe(true);
  for (const name of ['x-authorization', 'accept', 'x-host', 'expectation', 'remote-user', 'x-fairlead-a', 'content-length'])
    expect(isWithheld(name), name).toBe(false);
  expect(withoutWithheld(['accept', '1', 'impersonate-user', 'a', 'x-a', '2', 'fairlead-user', 'b', 'accept', '3'])).toEqual([
    'accept',
    '1',
    'x-a',
    '2',
    'accept',
    '3',
  ]);
});
