import { expect, test } from 'vitest';
import { inFlightLimiter } from '../../../src/hub/http/in-flight.ts';
import { StatusError } from '../../../src/kube/status.ts';

const code = (work: () => unknown) => {
  try {
    work();
    return 0;
  } catch (error) {
    return error instanceof StatusError ? error.status.code : -1;
  }
};

test('requests: 429 with a time to wait at the limit, room again after one has left, and leaving twice counts once', () => {
  const limiter = inFlightLimiter({ requests: 2, streams: 1, streamsPerUser: 1 });
  const first = limiter.enter('a', false);
  limiter.enter('b', false);
  expect(() => limiter.enter('c', false)).toThrow(
    expect.objectContaining({ status: expect.objectContaining({ code: 429, details: { retryAfterSeconds: 1 } }) }),
  );
  first();
  first();
  limiter.enter('c', false);
  expect(code(() => limiter.enter('d', false))).toBe(429);
});

test('streams: a limit for all and one for each caller, apart from requests', () => {
  const limiter = inFlightLimiter({ requests: 1, streams: 3, streamsPerUser: 2 });
  const mine = [limiter.enter('a', true), limiter.enter('a', true)];
  expect(() => limiter.enter('a', true)).toThrow('2 watches of yours are open');
  const other = limiter.enter('b', true);
  expect(() => limiter.enter('c', true)).toThrow('too many watches are open');
  expect(code(() => limiter.enter('c', false))).toBe(0);
  other();
  for (const leave of mine) leave();
  for (let at = 0; at < 2; at++) limiter.enter('a', true);
  expect(code(() => limiter.enter('a', true))).toBe(429);
});
