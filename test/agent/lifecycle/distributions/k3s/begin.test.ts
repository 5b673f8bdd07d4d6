import { expect, test } from 'vitest';
import { LEDGER_FILE } from '../../../../../src/agent/lifecycle/distributions/common/ledger.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { k3sCluster, OLD } from './cluster.ts';

const { after, signal } = cleanUp();

test('k3s (stand-in): removed by hand and created again, it is deleted without a trace of the first one either', async () => {
  let breaks = false;
  const cluster = await k3sCluster({
    around: (steps, { type }) =>
      steps.map((step) =>
        breaks && type === 'Install' && step.name === 'node-ready'
          ? { ...step, run: async () => Promise.reject(new Error('broken')) }
          : step,
      ),
  });
  after(cluster.close);
  const { sandbox, run } = cluster;
  const machine = await sandbox.machine();
  const pristine = sandbox.tree();
  const spec = await cluster.spec({ version: OLD });
  expect(await run('Install', spec)).toMatchObject({ phase: 'Succeeded' });
  const ledger = await machine.read(LEDGER_FILE);

  await machine.run({ argv: ['k3s-uninstall.sh'], timeoutMs: 60_000 }, () => undefined, signal());
  const left = async () => await machine.write('/proc/net/dev', `${await machine.read('/proc/net/dev')}flannel.1: 0\n`, 0o644);
  await left();
  breaks = true;
  expect(await run('Install', spec)).toMatchObject({ phase: 'Failed', message: expect.stringMatching(/everything was undone$/) });
  // Neither does an install that fails forget it, nor leave what it made.
  expect(await machine.read(LEDGER_FILE)).toBe(ledger);
  expect(await machine.read('/proc/net/dev')).not.toContain('flannel');
  breaks = false;
  await left();
  expect(await run('Install', spec)).toMatchObject({ phase: 'Succeeded' });
  expect(await machine.read(LEDGER_FILE)).toBe(ledger);
  expect(await run('Delete', spec)).toMatchObject({ phase: 'Succeeded' });
  expect(sandbox.tree()).toEqual(pristine);
});
