import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { lockFolder } from '../../../../src/agent/lifecycle/state/lock.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { waitUntil } from '../../../support/wait-until.ts';

const clean = cleanUp();

test('one process holds a folder, until it ends, however it ends', async () => {
  const folder = `/tmp/fairlead-lock-${process.pid}-${Date.now()}`;
  const module = new URL('../../../../src/agent/lifecycle/state/lock.ts', import.meta.url).href;
  const script = `const { lockFolder } = await import(${JSON.stringify(module)}); await lockFolder(${JSON.stringify(folder)}); console.log('held'); setInterval(() => {}, 1000);`;
  const other = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  clean.after(() => other.kill('SIGKILL'));
  await once(other.stdout, 'data');
  await expect(lockFolder(folder)).rejects.toThrow('another agent uses');
  other.kill('SIGKILL');
  await once(other, 'exit');
  let held: Awaited<ReturnType<typeof lockFolder>> | undefined;
  await waitUntil(async () => {
    held = await lockFolder(folder).catch(() => undefined);
    return held !== undefined;
  }, 'the kernel to give it free');
  await expect(lockFolder(folder)).rejects.toThrow('another agent uses');
  await held?.release();
  await (await lockFolder(folder)).release();
});
