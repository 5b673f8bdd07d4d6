import { expect, test } from 'vitest';
import { failingSteps, smallSteps } from './example.ts';
import { faults } from './sandbox.ts';
import { begun, expectWhole, forEach, inSandbox, measured, recovered } from './walk.ts';

test('R64: a crash at every place of undoing', { timeout: 300_000 }, async () => {
  const steps = () => failingSteps(smallSteps());
  const { places, ...trees } = await measured(steps);
  const first = places.findIndex((place) => place.includes('"undoing"'));
  expect(first).toBeGreaterThan(0);
  await forEach(places.length - first, (n) =>
    inSandbox(async (box) => {
      const crashAt = first + n;
      expect(await begun(box, steps, faults({ crashAt }))).toBe('crashed');
      const operation = await recovered(box, steps);
      expect(operation).toMatchObject({ phase: 'Failed' });
      await expectWhole(box, operation, trees, places[crashAt] ?? '');
    }),
  );
  console.info(`R64: ${places.length - first} crashes while undoing`);
});
