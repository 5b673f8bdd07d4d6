import { expect, test } from 'vitest';
import { tinySteps } from './example.ts';
import { faults } from './sandbox.ts';
import { begun, expectWhole, forEach, inSandbox, measured, recovered } from './walk.ts';

test('R64: a crash at every place of taking up what a crash at every place left', { timeout: 300_000 }, async () => {
  const { places, ...trees } = await measured(tinySteps);
  let pairs = 0;
  await forEach(places.length, async (crashAt) => {
    for (let second = 0; ; second++) {
      const ended = await inSandbox(async (box) => {
        await begun(box, tinySteps, faults({ crashAt }));
        const again = faults({ crashAt: second });
        const first = await recovered(box, tinySteps, again);
        const operation = first === 'crashed' ? await recovered(box, tinySteps) : first;
        await expectWhole(box, operation, trees, `${places[crashAt]}, then ${again.passed.at(-1)}`);
        return first !== 'crashed';
      });
      if (ended) return;
      pairs++;
    }
  });
  console.info(`R64: ${pairs} pairs of crashes`);
  expect(pairs).toBeGreaterThan(500);
});
