import { expect, test } from 'vitest';
import { age } from '../../../src/hub/http/duration.ts';
import { parseAccept } from '../../../src/hub/http/negotiate.ts';
import { optionsFromQuery } from '../../../src/hub/http/query-options.ts';
import { decode } from '../../../src/hub/http/validate.ts';
import { API_VERSION, RestartOptions } from '../../../src/hub/nodes/schema.ts';
import { StatusError } from '../../../src/kube/status.ts';

const SIZE = 100_000;
const fill = (unit: string, end = '') => unit.repeat(SIZE / unit.length) + end;
const HOSTILE = [
  fill('a', '!'),
  fill('a-', '!'),
  fill('.'),
  fill('1'),
  fill('-'),
  fill(' '),
  fill('2026-01-01T00:00:00'),
  fill('\\'),
  fill('"'),
  fill('é'),
];
const ACCEPTS = [
  ...HOSTILE,
  fill(','),
  fill(';'),
  fill('*/*,'),
  fill('a/b;q=0.1,'),
  fill('/'),
  `application/json${fill(';a=b')}`,
  fill('"', ','),
];

const options = { fieldValidation: 'Warn' as const, kind: 'RestartOptions', apiVersion: API_VERSION, object: {} };
const body = (value: unknown) => () => decode(RestartOptions, value, options);
const READERS: Record<string, (text: string) => () => unknown> = {
  'field with a pattern': (text) => body({ requestID: text }),
  'field with a length': (text) => body({ reason: text }),
  'field that is a time': (text) => body({ metadata: { creationTimestamp: text } }),
  'name of a field': (text) => body({ [text]: 1 }),
  'query integer': (text) => () => optionsFromQuery(RestartOptions, new URLSearchParams([['gracePeriodSeconds', text]])),
  'query boolean': (text) => () => optionsFromQuery(RestartOptions, new URLSearchParams([['force', text]])),
  age: (text) => () => age(text, 0),
};

function milliseconds(run: () => unknown): number {
  let best = Number.POSITIVE_INFINITY;
  // The best of three: the machine may be busy, the pattern is as slow every time.
  for (let round = 0; round < 3; round++) {
    const started = performance.now();
    try {
      run();
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
    }
    best = Math.min(best, performance.now() - started);
  }
  return best;
}

test.each(Object.entries(READERS))('R34: %s takes at most 20 ms for 100 KB of hostile text', (_, reader) => {
  for (const text of HOSTILE) expect(milliseconds(reader(text)), text.slice(0, 12)).toBeLessThan(20);
});

test('R34: an Accept header takes at most 20 ms for 100 KB of hostile text', () => {
  for (const text of ACCEPTS)
    expect(
      milliseconds(() => parseAccept(text)),
      text.slice(0, 12),
    ).toBeLessThan(20);
});
