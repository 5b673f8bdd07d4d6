import { expect, test } from 'vitest';
import { kubeadm } from '../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import { planOperation } from '../../../../src/agent/lifecycle/operations/plan.ts';
import { type Step, StepError } from '../../../../src/agent/lifecycle/operations/step.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { spec, usualMachine } from '../distributions/kubeadm/usual-machine.ts';
import { request } from './example.ts';
import { sandbox } from './sandbox.ts';

const clean = cleanUp();
const step = (name: string, run: Step['run']): Step => ({
  ...{ name, run, check: async () => false, verify: async () => undefined },
  undo: async () => [],
});
const refuses = (name: string) =>
  step(name, async () => {
    throw new StepError('the token abcdef.0123456789abcdef is taken', 'free it');
  });

async function planOf(...steps: Step[]) {
  const box = await sandbox();
  clean.after(box.remove);
  const manager = box.manager(() => steps);
  await manager.start();
  clean.after(() => manager.stop());
  return await manager.plan(request());
}

test('a dry run is refused where the operation would end before it had changed anything', async () => {
  const waits = step('steady', async () => [{ kind: 'wait', text: 'all is well', until: async () => true, timeoutMs: 1 }]);
  for (const steps of [[refuses('preflight')], [waits, refuses('preflight')]]) {
    await expect(planOf(...steps)).rejects.toMatchObject({
      status: { code: 409, message: 'step preflight would fail: the token (hidden) is taken; next: free it' },
    });
  }
});

test('what is to be looked at when something was changed before is left for then', async () => {
  const makes = step('make', async () => [{ kind: 'write', path: '/etc/made', content: '', mode: 0o644 }]);
  expect((await planOf(makes, refuses('second'))).actions).toMatchObject([
    { step: 'make', kind: 'write' },
    { step: 'second', kind: 'wait', text: 'decided when the steps before it are done: the token (hidden) is taken' },
  ]);
  const looks = step('first', async () => {
    throw new Error('connection refused');
  });
  expect((await planOf(looks)).actions).toMatchObject([{ step: 'first', kind: 'wait' }]);
});

test('kubeadm: a dry run on a machine with a taken port, or with a cluster, is a 409 that says so', async () => {
  const box = await usualMachine(clean);
  const plan = () =>
    planOperation({
      request: request(),
      steps: kubeadm.install(spec()).map((one) => ({ ...one, saves: true })),
      context: () => box.context(spec()),
      performs: () => [],
      redact: (text) => text,
    });
  expect((await plan()).actions.length).toBeGreaterThan(10);
  await box.write('proc/net/tcp', 'heading\n 0: 00000000:192B 00000000:0000 0A 0\n');
  await expect(plan()).rejects.toMatchObject({ status: { code: 409, message: expect.stringContaining('something listens on port 6443') } });
  await box.write('etc/kubernetes/admin.conf', 'x');
  await expect(plan()).rejects.toMatchObject({
    status: { code: 409, message: expect.stringMatching(/there is a cluster on the machine.*next: kubeadm reset/) },
  });
});
