import { expect, test } from 'vitest';
import { rateLimiter, socketLimiter } from '../../../src/hub/sockets/limits.ts';

const refusal = (message: RegExp) =>
  expect.objectContaining({
    status: expect.objectContaining({
      code: 429,
      message: expect.stringMatching(message) as string,
      details: expect.objectContaining({ retryAfterSeconds: 1 }) as object,
    }) as object,
  }) as Error;

test('R49: a user has so many open over all clusters, a cluster so many of all users', () => {
  const limiter = socketLimiter({ perUser: 3, perCluster: 4 });
  const leave = [limiter.enter('jane', 'a'), limiter.enter('jane', 'a'), limiter.enter('jane', 'b')];
  expect(() => limiter.enter('jane', 'c')).toThrow(refusal(/3 requests of yours/));
  limiter.enter('bob', 'a');
  limiter.enter('bob', 'a');
  expect(() => limiter.enter('bob', 'a')).toThrow(refusal(/to this cluster/));
  // What was refused counts for nobody.
  limiter.enter('bob', 'c');
  expect(() => limiter.enter('bob', 'c')).toThrow(refusal(/yours/));
  expect(() => limiter.enter('eve', 'a')).toThrow(refusal(/to this cluster/));
  leave[0]?.();
  limiter.enter('eve', 'a');
  limiter.enter('jane', 'c');
});

test('R49: leaving twice makes room once', () => {
  const limiter = socketLimiter({ perUser: 2, perCluster: 100 });
  const leave = limiter.enter('jane', 'a');
  limiter.enter('jane', 'a');
  for (let at = 0; at < 5; at++) leave();
  limiter.enter('jane', 'a');
  expect(() => limiter.enter('jane', 'a')).toThrow(refusal(/yours/));
});

test('R49: names that are properties of objects are names like others', () => {
  const limiter = socketLimiter({ perUser: 1, perCluster: 100 });
  for (const name of ['__proto__', 'constructor', 'toString', '']) {
    limiter.enter(name, name);
    expect(() => limiter.enter(name, name)).toThrow(refusal(/yours/));
  }
});

test('a rate allows a burst of one second, then so many a second, and saves no more up', () => {
  let now = 0;
  const may = rateLimiter(10, () => now);
  const burst = () => Array.from({ length: 1_000 }, may).filter(Boolean).length;
  expect(burst()).toBe(10);
  now = 50;
  expect(burst()).toBe(0);
  now = 100;
  expect(burst()).toBe(1);
  now = 600;
  expect(burst()).toBe(5);
  now = 3_600_000;
  expect(burst()).toBe(10);
  // A clock that stands still gives nothing.
  expect(burst()).toBe(0);
});
