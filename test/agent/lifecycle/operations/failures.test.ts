import { expect, test } from 'vitest';
import type { Step } from '../../../../src/agent/lifecycle/operations/step.ts';
import { exampleSteps } from './example.ts';
import { faults } from './sandbox.ts';
import { begun, difference, expectWhole, forEach, inSandbox, measured, recovered } from './walk.ts';

test('each part of each step made to fail: the machine is as it was before', async () => {
  const { before } = await measured(exampleSteps);
  const cases = exampleSteps()
    .filter(({ name }) => name !== 'already')
    .flatMap(({ name }) => (['check', 'run', 'verify'] as const).map((part) => ({ name, part })));
  await forEach(cases.length, (n) =>
    inSandbox(async (box) => {
      const { name, part } = cases[n] ?? { name: '', part: 'run' };
      const fail = async () => {
        throw new Error('made to fail');
      };
      const steps = () => exampleSteps().map((step): Step => (step.name === name ? { ...step, [part]: fail } : step));
      await begun(box, steps, faults());
      const operation = await recovered(box, steps);
      expect(operation).toMatchObject({ phase: 'Failed', message: `step ${name} failed: made to fail; everything was undone` });
      expect(difference(await box.tree(), before), `${name} ${part}`).toBeUndefined();
    }),
  );
});

test('R64: one error at each write and each action', { timeout: 300_000 }, async () => {
  const { places, ...trees } = await measured(exampleSteps);
  const wanted = places.flatMap((place, n) => (place.startsWith('in ') ? [] : [n]));
  const phases = { Succeeded: 0, Failed: 0, refused: 0 };
  await forEach(wanted.length, (n) =>
    inSandbox(async (box) => {
      const failAt = wanted[n] ?? 0;
      await begun(box, exampleSteps, faults({ failAt })).catch(() => undefined);
      const operation = await recovered(box, exampleSteps);
      await expectWhole(box, operation, trees, places[failAt] ?? '');
      phases[typeof operation === 'object' ? (operation.phase as 'Succeeded' | 'Failed') : 'refused']++;
    }),
  );
  console.info(`R64: ${wanted.length} errors: ${JSON.stringify(phases)}`);
  expect(phases.Failed).toBeGreaterThan(phases.Succeeded);
});

test('R65: the disk is full at each write, and stays so for three writes', { timeout: 300_000 }, async () => {
  const { places, ...trees } = await measured(exampleSteps);
  const writes = places.filter((place) => /^before (journal|replace|write|copy)/.test(place)).length;
  await forEach(writes, (fullAt) =>
    inSandbox(async (box) => {
      await begun(box, exampleSteps, faults({ fullAt, fullFor: 3 })).catch(() => undefined);
      await expectWhole(box, await recovered(box, exampleSteps), trees, `full at write ${fullAt}`);
    }),
  );
  console.info(`R65: ${writes} times full`);
});
