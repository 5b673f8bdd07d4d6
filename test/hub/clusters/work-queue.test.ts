import { expect, test, vi } from 'vitest';
import { workQueue } from '../../../src/hub/clusters/work-queue.ts';
import { cleanUp } from '../../support/clean-up.ts';

const { signal } = cleanUp();
const until = (condition: () => void) => vi.waitFor(condition, { timeout: 10_000, interval: 5 });

test('a key that is added while it is worked on is worked on again, never twice at the same time', async () => {
  let [runs, active, most] = [0, 0, 0];
  const gate = Promise.withResolvers<void>();
  const queue = workQueue({
    workers: 4,
    signal: signal(),
    onError: () => undefined,
    async work() {
      runs++;
      most = Math.max(most, ++active);
      if (runs === 1) await gate.promise;
      active--;
      return undefined;
    },
  });
  void queue.run();
  queue.add('a');
  await until(() => expect(runs).toBe(1));
  for (let i = 0; i < 3; i++) queue.add('a');
  gate.resolve();
  await until(() => expect(runs).toBe(2));
  expect(most).toBe(1);
});

test('so many keys at once as there are workers', async () => {
  let active = 0;
  const seen: number[] = [];
  const gates: (() => void)[] = [];
  const queue = workQueue({
    workers: 2,
    signal: signal(),
    onError: () => undefined,
    async work() {
      seen.push(++active);
      await new Promise<void>((resolve) => gates.push(resolve));
      active--;
      return undefined;
    },
  });
  for (const key of ['a', 'b', 'c', 'd', 'e']) queue.add(key);
  void queue.run();
  for (let done = 0; done < 5; done++) {
    await until(() => expect(gates.length).toBeGreaterThan(0));
    gates.shift()?.();
  }
  await until(() => expect(active).toBe(0));
  expect(seen).toHaveLength(5);
  expect(Math.max(...seen)).toBe(2);
});

test('failures are tried again with growing pauses and the number of the attempt; success forgets them', async () => {
  const attempts: number[] = [];
  const errors: string[] = [];
  const queue = workQueue({
    workers: 1,
    signal: signal(),
    backoffMs: { first: 1, longest: 4 },
    onError: (key, error) => void errors.push(`${key}: ${(error as Error).message}`),
    async work(_key, attempt) {
      attempts.push(attempt);
      if (attempts.length < 4) throw new Error('no');
      return attempts.length < 6 ? 1 : undefined;
    },
  });
  void queue.run();
  queue.add('a');
  await until(() => expect(attempts).toEqual([1, 2, 3, 4, 1, 1]));
  expect(errors).toEqual(['a: no', 'a: no', 'a: no']);
});

test('an earlier time stays, and a key that is added does not wait for it', async () => {
  const seen: string[] = [];
  const queue = workQueue({
    workers: 1,
    signal: signal(),
    onError: () => undefined,
    work: async (key) => void seen.push(key) as undefined,
  });
  void queue.run();
  queue.addAfter('soon', 1);
  queue.addAfter('soon', 3_600_000);
  queue.addAfter('now', 3_600_000);
  queue.add('now');
  await until(() => expect(seen.sort()).toEqual(['now', 'soon']));
});

test('ends when the signal is aborted, after what is under way', async () => {
  const controller = new AbortController();
  const gate = Promise.withResolvers<void>();
  let ended = false;
  const queue = workQueue({
    workers: 1,
    signal: controller.signal,
    onError: () => undefined,
    async work() {
      await gate.promise;
      ended = true;
      return 1;
    },
  });
  const running = queue.run();
  queue.add('a');
  await Promise.resolve();
  controller.abort();
  gate.resolve();
  await running;
  expect(ended).toBe(true);
});
