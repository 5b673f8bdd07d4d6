import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { limit, times } from '../../support/counts.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { ANN, startDoors } from './attack-pair.ts';
import { rawClient, requestText } from './attack-tools.ts';

const clean = cleanUp();

/** What two readers of a path may read differently. */
const PIECES = [
  ' ',
  ...['..', '.', '%2e%2e', '%2E%2e/', '.%2e', '//', '/', '%2F', '%2f', '%5c', '%5C..', '\\', '\\..\\', ';', ';a=b', ';/..', '%3b'],
  ...[
    '%00',
    '\0',
    '?',
    '%3f',
    '#',
    '%23',
    '%',
    '%zz',
    '%u002e',
    '%c0%ae',
    '%25%32%65',
    '%252e',
    '@',
    ':',
    '&',
    '=',
    '+',
    '~',
    '*',
    '$',
    '!',
  ],
  ...[
    '\x7f',
    '\x80',
    '\xff',
    '\xc0\xaf',
    '\t',
    '"',
    '<',
    '>',
    '[',
    ']',
    '^',
    '`',
    '{',
    '|',
    '}',
    "'",
    'http://x/',
    'direct',
    'proxy',
    'sockets',
  ],
  ...['api', 'pods', 'exec', 'a', 'B', '0', 'https', '127.0.0.1:1', '..%2f', '../', '/../', '/./', '%2e/', 'attach'],
];

test('R24: odd paths: the bytes that are authorised and audited are those that the child gets, or the answer is 400 to 405 and the child gets nothing', {
  timeout: limit(60_000, 600_000),
}, async () => {
  const COUNT = times(500, 5_000);
  let state = 24;
  const pick = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const { to, seen, door } = await startDoors(clean, () => ANN);
  const base = to.direct('').replace('/proxy/direct', '');
  const prefixes = [
    to.direct('/'),
    to.direct(''),
    `${base}/proxy/`,
    `${base}/`,
    base,
    base.slice(0, -36),
    '/apis/proxies.clusternet.io/v1alpha1/',
    '/',
  ];
  const outcomes = { passed: 0, refused: 0 };
  let client = await rawClient(door.port, door.ca);
  for (let count = 0; count < COUNT; count++) {
    const prefix = prefixes[Math.max(0, pick(24) - 16)] ?? '/';
    const sent = prefix + Array.from({ length: 1 + pick(6) }, () => PIECES[pick(PIECES.length)] ?? '').join(pick(2) === 0 ? '/' : '');
    // Blanks at the end are those of the request line: readers of HTTP leave them out.
    const target = sent.replace(/ +$/, '');
    seen.length = 0;
    door.asked.length = 0;
    door.audited.length = 0;
    if (client.socket.destroyed) client = await rawClient(door.port, door.ca);
    const began = client.text().length;
    client.write(requestText(`GET ${sent}`));
    const answer = () => /^HTTP\/1\.1 ([0-9]{3})[\s\S]*?\r\n\r\n/.exec(client.text().slice(began));
    await waitUntil(() => answer() !== null || client.socket.destroyed, `an answer to ${JSON.stringify(target)}`);
    const code = Number(answer()?.[1] ?? 0);
    const shown = JSON.stringify(target);
    if (seen.length > 0) {
      outcomes.passed++;
      expect(code, shown).toBe(200);
      expect(target.startsWith(to.direct('')), shown).toBe(true);
      const rest = target.slice(to.direct('').length);
      // `direct` alone, or with a query, is the root.
      const expected = rest.startsWith('/') ? rest : `/${rest}`;
      expect(
        seen.map((got) => got.url),
        shown,
      ).toEqual([expected]);
      expect(
        door.asked.map(({ info }) => info),
        shown,
      ).toEqual([
        {
          kind: 'resource',
          path: target,
          verb: 'get',
          group: 'proxies.clusternet.io',
          version: 'v1alpha1',
          resource: 'sockets',
          name: to.id,
          subresource: 'proxy',
          rest: '',
        },
      ]);
      await waitUntil(() => door.audited.length === 1, 'the audit line');
      expect(door.audited[0], shown).toMatchObject({
        requestURI: target,
        objectRef: { resource: 'sockets', subresource: 'proxy', name: to.id },
      });
    } else {
      outcomes.refused++;
      expect([400, 403, 404, 405], `${shown} was answered ${code}`).toContain(code);
    }
    // What was refused before it was read as HTTP ends the connection.
    if (code !== 200 || count % 50 === 0) client.destroy();
  }
  client.destroy();
  expect(outcomes.passed).toBeGreaterThan(COUNT / 5);
  expect(outcomes.refused).toBeGreaterThan(COUNT / 10);
});

/** Headers by which other proxies let themselves be told where a request goes, whence it comes, or who sent it. */
const FORGED = [
  'X-Forwarded-Host: evil.example',
  'X-Forwarded-For: 198.51.100.7',
  'X-Forwarded-For: 198.51.100.7, 127.0.0.1, 192.0.2.1',
  'x-forwarded-for: system:masters',
  'X-Forwarded-Proto: http',
  'X-Forwarded-Port: 1',
  'X-Forwarded-Prefix: /apis/infraops.michael.io',
  'X-Forwarded-Server: evil.example',
  'X-Forwarded-User: root',
  'X-Forwarded-Client-Cert: Subject="O=system:masters"',
  'Forwarded: for=198.51.100.7;host=evil.example;proto=http',
  'X-Real-IP: 198.51.100.7',
];

test('R28: forged X-Forwarded-* and their kin change neither where a request goes, nor who may send it, nor the address in the audit log', async () => {
  for (const via of ['token', 'frontProxy'] as const) {
    const { to, seen, door, send } = await startDoors(clean, () => ANN, {}, via);
    const observe = async (headers: readonly string[]) => {
      for (const list of [seen, door.asked, door.audited]) list.length = 0;
      const { code } = await send(`GET ${to.direct('/api?a=b')}`, ['Connection: close', ...headers]);
      await waitUntil(() => door.audited.length === 1, 'the audit line');
      const [line] = door.audited;
      return {
        code,
        asked: [...door.asked],
        child: seen.map(({ url, headers: { host } }) => [url, host]),
        audited: { uri: line?.requestURI, user: line?.user, object: line?.objectRef, verb: line?.verb },
        source: line?.sourceIPs,
        forwarded: seen.flatMap(({ rawHeaders }) => rawHeaders.filter((name, at) => at % 2 === 0 && /forwarded|real-ip/i.test(name))),
        forwardedFor: seen[0]?.headers['x-forwarded-for'],
      };
    };
    // The front proxy adds the address that it saw itself behind whatever the client said.
    const seenByProxy = via === 'frontProxy' ? ['X-Forwarded-For: 192.0.2.9'] : [];
    const usual = await observe(seenByProxy);
    expect(usual).toMatchObject({ code: 200, child: [['/api?a=b', `127.0.0.1:${to.childPort}`]], forwarded: ['x-forwarded-for'] });
    expect(usual.source).toEqual(via === 'frontProxy' ? ['192.0.2.9', '127.0.0.1'] : ['127.0.0.1']);
    for (const header of FORGED) {
      const got = await observe([header, ...seenByProxy]);
      if (via === 'token') expect(got, header).toEqual(usual);
      else {
        const { forwarded, forwardedFor, ...decided } = got;
        const { forwarded: _names, forwardedFor: _value, ...usually } = usual;
        expect(decided, header).toEqual(usually);
        expect(new Set(forwarded), header).toEqual(new Set(['x-forwarded-for']));
        expect(forwardedFor, header).toMatch(/(^|, )192\.0\.2\.9$/);
      }
    }
  }
});
