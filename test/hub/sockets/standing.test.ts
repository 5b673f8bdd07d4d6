import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import type { Admitted, StillAllowed } from '../../../src/hub/sockets/gate.ts';
import { socketInfo } from '../../../src/hub/sockets/socket-path.ts';
import { standing, TUNNEL_LOOK_MS } from '../../../src/hub/sockets/standing.ts';
import { user } from '../../support/socket-hub.ts';
import { waitUntil } from '../../support/wait-until.ts';

// A look takes seconds: the tests run beside each other.
const over = new AbortController();
afterAll(() => over.abort());
const as = (name: string, more: Partial<Admitted> = {}): Admitted => ({ user: user(name), via: 'frontProxy', ...more });
const proxy = (id: string, method = 'GET') =>
  socketInfo(method, `/x/${id}`, { kind: 'proxy', id, scheme: 'https', authority: 'direct', path: '/' }, false);

/** What stands, with the questions that were asked about it. */
function start(allowed: StillAllowed) {
  const asked: string[] = [];
  const errors: unknown[] = [];
  const stand = standing(
    async (admitted, info) => {
      asked.push(`${admitted.user.name} ${info.verb} ${info.name} ${admitted.via}`);
      return await allowed(admitted, info);
    },
    over.signal,
    (error) => errors.push(error),
  );
  return { stand, asked, errors };
}

test.concurrent('R9: one question for all that one caller holds, and an end for each of it', async () => {
  const { stand, asked } = start(async ({ user: { name } }) => name !== 'mallory');
  const ends: string[] = [];
  for (let at = 0; at < 50; at++) stand.watch(as('mallory'), proxy('a'), () => ends.push('mallory'));
  for (let at = 0; at < 50; at++) stand.watch(as('jane'), proxy('a'), () => ends.push('jane'));
  stand.watch(as('jane'), proxy('b'), () => ends.push('jane'));
  stand.watch(as('jane'), proxy('a', 'DELETE'), () => ends.push('jane'));
  stand.watch(as('jane', { via: 'token' }), proxy('a'), () => ends.push('jane'));
  stand.watch(as('jane', { user: user('jane', { groups: ['dev'] }) }), proxy('a'), () => ends.push('jane'));
  await waitUntil(() => ends.length > 0 && asked.length >= 6, 'a look', 15_000);
  expect(ends).toEqual(Array.from({ length: 50 }, () => 'mallory'));
  expect(asked).toHaveLength(6);
  expect(stand.size).toBe(54);
  expect(new Set(asked)).toEqual(
    new Set(['mallory get a frontProxy', 'jane get a frontProxy', 'jane get b frontProxy', 'jane delete a frontProxy', 'jane get a token']),
  );
});

test.concurrent('R9: a question is asked again after the time given and not before; that of tunnels stays within ten seconds', async () => {
  const lookMs = 2_500;
  const asked: number[] = [];
  const allowed: StillAllowed = async () => asked.push(performance.now()) > 0;
  const stand = standing(allowed, over.signal, (error) => expect.unreachable(String(error)), lookMs);
  for (let at = 0; at < 2; at++) stand.watch(as('agent'), proxy('a'), () => expect.unreachable('it is allowed'));
  await waitUntil(() => asked.length === 3, 'three looks', 30_000);
  const [first = 0, second = 0, third = 0] = asked;
  for (const pause of [second - first, third - second]) expect(pause).toBeGreaterThan(lookMs - 50);
  // The time until a new tunnel is old enough to be asked about does not come on top of it.
  expect(TUNNEL_LOOK_MS).toBeLessThan(9_000);
});

test.concurrent('R9: what has ended is not asked about, and not ended again', async () => {
  const { stand, asked } = start(async () => false);
  const ends: string[] = [];
  const forget = stand.watch(as('jane'), proxy('a'), () => ends.push('gone'));
  const one = stand.watch(as('bob'), proxy('a'), () => ends.push('one'));
  stand.watch(as('bob'), proxy('a'), () => ends.push('other'));
  forget();
  forget();
  one();
  await waitUntil(() => ends.length > 0, 'a look', 15_000);
  expect(asked).toEqual(['bob get a frontProxy']);
  expect(ends).toEqual(['other']);
  expect(stand.size).toBe(0);
});

test.concurrent('R9: a question that cannot be answered changes nothing, and is asked again', async () => {
  let round = 0;
  const { stand, asked, errors } = start(async () => {
    if (++round === 1) throw new Error('away');
    return false;
  });
  let ended = 0;
  stand.watch(as('jane'), proxy('a'), () => ended++);
  await waitUntil(() => errors.length === 1, 'the first look', 15_000);
  expect(ended).toBe(0);
  await waitUntil(() => ended === 1, 'the second look', 15_000);
  expect(asked).toHaveLength(2);
});

test.concurrent('R9: questions that take as long as they may do not keep the others from their end', async () => {
  const { stand } = start(async ({ user: { name } }) => {
    if (name.startsWith('slow')) await sleep(4_500, undefined, { ref: false });
    return false;
  });
  const ends: string[] = [];
  for (let at = 0; at < 12; at++) stand.watch(as(`slow-${at}`), proxy('a'), () => ends.push('slow'));
  for (let at = 0; at < 100; at++) stand.watch(as(`quick-${at}`), proxy('a'), () => ends.push('quick'));
  await waitUntil(() => ends.length >= 100, 'the quick ones to end');
  expect(ends).not.toContain('slow');
});
