import { expect, test } from 'vitest';
import { LEDGER_FILE, type Ledger } from '../../../../../src/agent/lifecycle/distributions/common/ledger.ts';
import { recordStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/begin.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { request } from '../../operations/example.ts';
import { sandbox } from '../../operations/sandbox.ts';

const clean = cleanUp();

test('a second install keeps what the first wrote down, when somebody removed its cluster by hand; a deletion takes it away', async () => {
  const box = await sandbox();
  clean.after(box.remove);
  const manager = box.manager(({ type }) => (type === 'Delete' ? [] : [recordStep()]));
  await manager.start();
  clean.after(() => manager.stop());
  const run = async (type: 'Install' | 'Delete') => {
    await manager.begin(request(type));
    await manager.settled();
    expect(manager.last()).toMatchObject({ phase: 'Succeeded' });
  };
  const interfaces = async () => (JSON.parse((await box.machine.read(LEDGER_FILE)) ?? '{}') as Partial<Ledger>).interfaces;
  const see = (...names: string[]) =>
    box.machine.write('/proc/net/dev', `heading\nheading\n${names.map((name) => `${name}: 0\n`).join('')}`, 0o644);

  await see('lo', 'eth0');
  await run('Install');
  // `kubeadm reset` leaves the bridge.
  await see('lo', 'eth0', 'cni0');
  await run('Install');
  expect(await interfaces()).toEqual(['lo', 'eth0']);
  await run('Delete');
  expect(await box.machine.stat(LEDGER_FILE)).toBeUndefined();
  await see('lo', 'eth1');
  await run('Install');
  expect(await interfaces()).toEqual(['lo', 'eth1']);
});
