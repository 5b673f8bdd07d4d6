import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { atOnce, runBatches } from '../../kubectl-plugins/lib/batches.ts';
import { nodeNote } from '../../kubectl-plugins/lib/completion.ts';
import { ago, parseDuration, shortDuration } from '../../kubectl-plugins/lib/duration.ts';
import { parseFlags } from '../../kubectl-plugins/lib/flags.ts';
import { commandIndex } from '../../kubectl-plugins/lib/infra.ts';
import { jsonPathTemplate } from '../../kubectl-plugins/lib/jsonpath.ts';
import { tablePrinter } from '../../kubectl-plugins/lib/table.ts';
import { proxyFromEnvironment } from '../../src/kube/proxy-environment.ts';

test.each([
  ['90s', 90_000],
  ['1h30m', 5_400_000],
  ['1.5m', 90_000],
  ['250ms', 250],
  ['0', 0],
])('the duration %s is %i ms', (text, ms) => {
  expect(parseDuration(text, 'timeout')).toBe(ms);
});

test.each(['', '10', '-5s', '5 s', '5x', 's', '1e3s'])('"%s" is no duration', (text) => {
  expect(() => parseDuration(text, 'timeout')).toThrow('--timeout takes a duration');
});

test('times are short', () => {
  expect([999, 61_000, 3_600_000, 90_000_000].map(shortDuration)).toEqual(['0s', '1m1s', '1h', '1d1h']);
  const now = Date.parse('2026-01-04T00:00:00Z');
  expect(ago('2026-01-01T00:00:00Z', now)).toBe('3 d ago');
  expect(ago('2026-01-03T23:59:30Z', now)).toBe('30 s ago');
});

test('the note of a node says readiness, cordon and last restart', () => {
  const lastRestart = { time: '2026-01-01T00:00:00Z', requestedBy: 'ann' };
  const now = Date.parse('2026-01-04T00:00:00Z');
  expect(nodeNote({ spec: { unschedulable: true }, status: { ready: 'True', lastRestart } }, now)).toBe(
    'Ready · cordoned · restarted 3 d ago by ann',
  );
  expect(nodeNote({ status: { ready: 'Unknown' } }, now)).toBe('NotReady');
});

describe('flags', () => {
  const flags = [
    { name: 'all', short: 'a', kind: 'switch', help: '' },
    { name: 'output', short: 'o', kind: 'text', help: '' },
    { name: 'group', short: 'g', kind: 'list', help: '' },
  ] as const;

  test('are read as kubectl reads them', () => {
    const parsed = parseFlags(['x', '-aoyaml', '--group=1', '--group', '2', '--all=false', 'y', '--', '-z'], flags);
    expect(parsed.words).toEqual(['x', 'y', '-z']);
    expect([parsed.on('all'), parsed.text('output'), parsed.list('group')]).toEqual([false, 'yaml', ['1', '2']]);
    expect(parseFlags(['-o=json'], flags).text('output')).toBe('json');
  });

  test('any words and values come through unchanged', () => {
    fc.assert(
      fc.property(fc.array(fc.string()), fc.string(), (words, value) => {
        const parsed = parseFlags([`--output=${value}`, '--', ...words], flags);
        expect(parsed.words).toEqual(words);
        expect(parsed.text('output')).toBe(value);
      }),
    );
  });

  test('the command of kubectl infra is found behind flags of kubectl', () => {
    expect(commandIndex(['--context', 'x', '-s=y', '-n', 'z', 'nodes', 'stop'])).toBe(5);
    expect(commandIndex(['--insecure-skip-tls-verify', 'nodes'])).toBe(1);
  });
});

describe('batches', () => {
  test('a percentage is rounded down, at least 1', () => {
    expect([atOnce('25%', 3), atOnce('50%', 5), atOnce('100%', 7), atOnce('3', 2)]).toEqual([1, 2, 7, 3]);
  });

  test('never more than allowed at once, each item once, nothing begun after a failure', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 20 }), fc.integer({ min: 1, max: 6 }), async (outcomes, width) => {
        let [running, most, failed] = [0, 0, false];
        const begun: number[] = [];
        const { results, notBegun } = await runBatches(
          outcomes.map((ok, at) => ({ ok, at })),
          width,
          async ({ ok, at }) => {
            expect(failed).toBe(false);
            begun.push(at);
            most = Math.max(most, ++running);
            await new Promise((resolve) => setImmediate(resolve));
            running--;
            if (!ok) failed = true;
            return { ok, at };
          },
          () => false,
        );
        expect(most).toBeLessThanOrEqual(width);
        expect([...begun, ...notBegun.map(({ at }) => at)]).toEqual(outcomes.map((_, at) => at));
        expect(results.map(({ at }) => at)).toEqual(begun);
        if (outcomes.every((ok) => ok)) expect(notBegun).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });
});

test.each([
  ['https://api.example.com', { HTTPS_PROXY: 'http://p:1' }, 'http://p:1'],
  ['https://api.example.com', { https_proxy: 'p:1' }, 'http://p:1'],
  ['http://api.example.com', { HTTPS_PROXY: 'http://p:1' }, undefined],
  ['https://api.example.com', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'example.com' }, undefined],
  ['https://api.example.com', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '.example.com' }, undefined],
  ['https://example.com', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '.example.com' }, 'http://p:1'],
  ['https://notexample.com', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'example.com' }, 'http://p:1'],
  ['https://10.1.2.3:6443', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '10.0.0.0/8' }, undefined],
  ['https://11.1.2.3:6443', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '10.0.0.0/8, 11.1.2.3:443' }, 'http://p:1'],
  ['https://11.1.2.3:6443', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '11.1.2.3:6443' }, undefined],
  ['https://[2001:db8::1]', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '2001:db8::/32' }, undefined],
  ['https://127.0.0.1', { HTTPS_PROXY: 'http://p:1' }, undefined],
  ['https://localhost', { HTTPS_PROXY: 'http://p:1' }, undefined],
  ['https://x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '*' }, undefined],
])('the proxy for %s with %j is %s', (server, env, proxy) => {
  expect(proxyFromEnvironment(new URL(server), env)).toBe(proxy);
});

describe('jsonpath', () => {
  const object = { items: [{ metadata: { name: 'a', labels: { 'x.y/z': '1' } } }, { metadata: { name: 'b' } }] };
  test.each([
    ['{.items[0].metadata.name}', 'a'],
    ['.items[-1].metadata.name', 'b'],
    ['{.items[*].metadata.name}', 'a b'],
    ['{range .items[*]}{.metadata.name}{"\\t"}{end}', 'a\tb\t'],
    ["{.items[0].metadata.labels['x.y/z']}", '1'],
    ['{.items[0].metadata.labels.x\\.y/z}', '1'],
    ['name: {.items[0].metadata.name}!', 'name: a!'],
    ['{.nothing.there}', ''],
  ])('%s', (template, text) => {
    expect(jsonPathTemplate(template)(object)).toBe(text);
  });

  test.each(['', '{.items[?(@.a)]}', '{.a', '{end}', '{range .items[*]}x'])('%s is refused', (template) => {
    expect(() => jsonPathTemplate(template)).toThrow();
  });
});

test('tables of a watch have their header once, above the first row, and columns in line', () => {
  const print = tablePrinter(false, true);
  const columnDefinitions = [
    { name: 'Name', type: 'string', priority: 0 },
    { name: 'Detail', type: 'string', priority: 1 },
    { name: 'Phase', type: 'string', priority: 0 },
  ];
  expect(print({ kind: 'Table', columnDefinitions, rows: [] })).toBe('');
  expect(print({ kind: 'Table', columnDefinitions, rows: [{ cells: ['long-name', 'd', 'Pending'] }] })).toBe(
    'NAME        PHASE\nlong-name   Pending\n',
  );
  expect(print({ kind: 'Table', rows: [{ cells: ['x', 'd', null] }, { cells: ['y', 'd', 'Done'] }] })).toBe('x\ny           Done\n');
});
