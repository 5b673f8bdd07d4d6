import { expect, test } from 'vitest';
import type { OperationRequest } from '../../../../src/agent/lifecycle/operations/request.ts';
import { exampleSteps, request } from './example.ts';
import { faults } from './sandbox.ts';
import { begun, difference, forEach, inSandbox, managerWith, recovered } from './walk.ts';

const steps = ({ type }: OperationRequest) => (type === 'Delete' ? [] : exampleSteps());

test('R64: a crash at every place of Delete: the next agent ends it, and the machine is as it was before Install', {
  timeout: 300_000,
}, async () => {
  const places = await inSandbox(async (box) => {
    await begun(box, steps, faults());
    const fault = faults();
    await begun(box, steps, fault, 'Delete');
    return fault.passed;
  });
  expect(places.length).toBeGreaterThan(80);
  await forEach(places.length, (crashAt) =>
    inSandbox(async (box) => {
      const before = await box.tree();
      await begun(box, steps, faults());
      expect(await begun(box, steps, faults({ crashAt }), 'Delete')).toBe('crashed');
      const operation = await recovered(box, steps);
      // A crash before it was written down: asked again.
      if (typeof operation === 'object' && operation.type === 'Install') await begun(box, steps, faults(), 'Delete');
      else expect(operation, places[crashAt]).toMatchObject({ type: 'Delete', phase: 'Succeeded' });
      expect(difference(await box.tree(), before), places[crashAt]).toBeUndefined();
    }),
  );
  console.info(`R64: ${places.length} crashes of Delete`);
});

test('a Delete that fails stops there, says so, and can be asked for again', async () => {
  await inSandbox(async (box) => {
    const before = await box.tree();
    let broken = true;
    const failing = (asked: OperationRequest) =>
      steps(asked).map((step) => ({
        ...step,
        undo: async (context: Parameters<typeof step.undo>[0]) => {
          if (broken && step.name === 'service') throw new Error('the service does not stop');
          return step.undo(context);
        },
      }));
    const manager = managerWith(box, failing, faults());
    await manager.start();
    await manager.begin(request());
    await manager.settled();
    await manager.begin(request('Delete'));
    await manager.settled();
    expect(manager.last()).toMatchObject({
      phase: 'Failed',
      message: expect.stringMatching(/remove-service failed: the service does not stop; .*asked for again/),
    });
    broken = false;
    await manager.begin(request('Delete'));
    await manager.settled();
    expect(manager.last()).toMatchObject({ phase: 'Succeeded' });
    expect(difference(await box.tree(), before)).toBeUndefined();
    await manager.stop();
  });
});
