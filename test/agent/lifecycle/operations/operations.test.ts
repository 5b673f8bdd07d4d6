import { expect, test } from 'vitest';
import { cleanUp } from '../../../support/clean-up.ts';
import { exampleSteps, failingSteps, request } from './example.ts';
import { sandbox } from './sandbox.ts';

const { after, signal } = cleanUp();

async function world() {
  const box = await sandbox();
  after(box.remove);
  return box;
}

test('an operation runs its steps, and says what it did', async () => {
  const box = await world();
  const manager = box.manager(exampleSteps);
  await manager.start();
  const heard: string[] = [];
  manager.onEnd(async (asked, operation) => void heard.push(`${asked.type} ${operation.phase}`));
  const begun = await manager.begin(request());
  expect(begun.phase).toBe('Running');
  await expect(manager.begin(request())).rejects.toThrow(/runs since/);
  await manager.settled();
  expect(manager.last()?.message).toBeUndefined();
  expect(manager.last()?.steps.map(({ name, state }) => `${name} ${state}`)).toEqual([
    'files Done',
    'tool Done',
    'already Skipped',
    'service Done',
    'database Done',
    'stamp Done',
  ]);
  expect(heard).toEqual(['Install Succeeded']);
  const lines: string[] = [];
  for await (const line of manager.log({ follow: false, signal: signal() })) lines.push(line.replace(/^\S+ /, ''));
  expect(lines).toContain('tool make-data x');
  expect(lines).toContain('tool made x');
  expect((await manager.written()).map(({ path }) => path).sort()).toEqual([
    '/etc/app.conf',
    '/etc/deep/er/file',
    '/etc/systemd/system/app.service',
    '/usr/bin/tool',
  ]);
  await manager.stop();
});

test('a step that fails: everything is undone, with the words of the command', async () => {
  const box = await world();
  const before = await box.tree();
  const manager = box.manager(() => failingSteps());
  await manager.start();
  await manager.begin(request());
  await manager.settled();
  expect(manager.last()).toMatchObject({
    phase: 'Failed',
    message: expect.stringMatching(/step broken failed: fail: exit code 3: it is broken; everything was undone/),
  });
  expect(await box.tree()).toEqual(before);
  expect(await manager.written()).toEqual([]);
  await manager.stop();
});

test('Delete leaves the machine as it was, after install and upgrade, and another Install follows', async () => {
  const box = await world();
  const before = await box.tree();
  const manager = box.manager(({ type }) => (type === 'Delete' ? [] : exampleSteps()));
  await manager.start();
  for (const round of [1, 2]) {
    for (const type of ['Install', 'Upgrade', 'Delete'] as const) {
      await manager.begin(request(type));
      await manager.settled();
      expect(manager.last(), `${type} ${round}`).toMatchObject({ type, phase: 'Succeeded' });
      if (type !== 'Delete') expect(await box.tree()).not.toEqual(before);
    }
    expect(await box.tree()).toEqual(before);
  }
  await manager.stop();
});
