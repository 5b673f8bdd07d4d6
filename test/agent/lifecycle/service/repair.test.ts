import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Action, Step } from '../../../../src/agent/lifecycle/operations/step.ts';
import { repairSteps } from '../../../../src/agent/lifecycle/service/repair-steps.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { request } from '../operations/example.ts';
import { sandbox } from '../operations/sandbox.ts';

const clean = cleanUp();
const step = (name: string, run: Step['run']): Step => ({
  ...{ name, run, check: async () => false, verify: async () => undefined },
  undo: async () => [],
});
const write = (path: string, content: string, mode: number, secret = false): Action => ({ kind: 'write', path, content, mode, secret });

/** A machine with files of every kind, and the manager that made them. */
async function made() {
  const box = await sandbox();
  clean.after(box.remove);
  let times = 0;
  const install = [
    // What is written is made of what the machine was then, as with modules that are loaded since.
    step('of-the-machine', async () => [
      write('/etc/open.conf', `made at ${++times}\n`, 0o644),
      write('/etc/private.conf', `made at ${times}\n`, 0o600),
      write('/etc/open-secret.conf', `made at ${times}, password=pa55word\n`, 0o644),
      write('/etc/flagged.conf', `made at ${times} of a s3cr3t\n`, 0o644, true),
    ]),
    step('always-the-same', async () => [write('/etc/same.conf', 'same s3cr3t\n', 0o600, true)]),
    step('plugin', async ({ machine }) =>
      (await machine.stat('/usr/bin/tool')) ? [] : [{ kind: 'fetch', path: '/usr/bin/tool', artifact: 'bin/tool', mode: 0o755 }],
    ),
  ];
  const manager = box.manager(({ type }) => (type === 'Repair' ? repairSteps(install, () => manager.written()) : install));
  await manager.start();
  clean.after(() => manager.stop());
  const run = async (type: 'Install' | 'Repair') => {
    await manager.begin(request(type));
    await manager.settled();
    return manager.last();
  };
  expect(await run('Install')).toMatchObject({ phase: 'Succeeded' });
  return { box, run, manager, read: (path: string) => readFile(join(box.root, path), 'utf8') };
}

test('what install made of what the machine was then is put back too, and so is what came from the artifacts', async () => {
  const { box, run, read } = await made();
  const files = ['/etc/open.conf', '/etc/same.conf', '/usr/bin/tool'];
  const before = await Promise.all(files.map(read));
  for (const path of files) await box.machine.write(path, 'somebody was here', 0o644);
  expect(await run('Repair')).toMatchObject({ phase: 'Succeeded' });
  expect(await Promise.all(files.map(read))).toEqual(before);
  await box.machine.remove('/usr/bin/tool');
  expect(await run('Repair')).toMatchObject({ phase: 'Succeeded' });
  expect((await box.machine.stat('/usr/bin/tool'))?.mode).toBe(0o755);
});

test('a repair that cannot put everything back fails with what remains, and what it could put back stays so', async () => {
  const { box, run, read } = await made();
  const lost = ['/etc/private.conf', '/etc/open-secret.conf', '/etc/flagged.conf'];
  const before = await Promise.all(lost.map(read));
  for (const path of [...lost, '/etc/open.conf', '/etc/same.conf']) await box.machine.write(path, 'somebody was here', 0o600);
  const failed = await run('Repair');
  expect(failed).toMatchObject({ phase: 'Failed', nextCommand: expect.stringContaining('patch the cluster') });
  expect(failed?.message).toBe(
    `step repair-files failed: these could not be put back: ${lost.join(', ')}; what was put back before stays so, and repair can be asked for again`,
  );
  expect([await read('/etc/open.conf'), await read('/etc/same.conf')]).toEqual(['made at 1\n', 'same s3cr3t\n']);
  expect((await box.machine.stat('/etc/open.conf'))?.mode).toBe(0o644);
  expect(await run('Repair')).toMatchObject({ phase: 'Failed', message: expect.stringContaining('these cannot be put back') });
  for (const [at, path] of lost.entries()) await box.machine.write(path, before[at] ?? '', at === 0 ? 0o600 : 0o644);
  expect(await run('Repair')).toMatchObject({ phase: 'Succeeded', steps: [{ state: 'Skipped' }] });
});

test('what the agent keeps to repair from holds no secret', async () => {
  const { box, manager } = await made();
  expect((await manager.written()).filter(({ content }) => content !== undefined).map(({ path }) => path)).toEqual(['/etc/open.conf']);
  const folder = join(box.stateDir, 'lifecycle');
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    expect(await readFile(join(entry.parentPath, entry.name), 'utf8'), entry.name).not.toMatch(/pa55word|s3cr3t/);
  }
});
