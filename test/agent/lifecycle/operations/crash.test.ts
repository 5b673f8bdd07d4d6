import { expect, test } from 'vitest';
import { exampleSteps } from './example.ts';
import { faults } from './sandbox.ts';
import { begun, expectWhole, forEach, inSandbox, measured, recovered } from './walk.ts';

test('R64: a crash before, in the middle of and after every write and every action of an operation: the next agent ends it on one side', {
  timeout: 300_000,
}, async () => {
  const { places, ...trees } = await measured(exampleSteps);
  expect(places.length).toBeGreaterThan(150);
  const ends = { Succeeded: 0, Failed: 0, none: 0 };
  await forEach(places.length, (crashAt) =>
    inSandbox(async (box) => {
      const fault = faults({ crashAt });
      expect(await begun(box, exampleSteps, fault)).toBe('crashed');
      const operation = await recovered(box, exampleSteps);
      await expectWhole(box, operation, trees, places[crashAt] ?? '');
      ends[typeof operation === 'object' ? (operation.phase as 'Succeeded' | 'Failed') : 'none']++;
    }),
  );
  console.info(`R64: ${places.length} crashes: ${JSON.stringify(ends)}`);
  expect(ends.Succeeded).toBeGreaterThan(ends.Failed);
  expect(ends.Failed).toBeGreaterThan(0);
});
