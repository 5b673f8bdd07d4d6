import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { type Step, StepError } from '../../../../src/agent/lifecycle/operations/step.ts';
import { findDrift } from '../../../../src/agent/lifecycle/reconcilers/find-drift.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { exampleSteps, failingSteps, request, tinySteps } from './example.ts';
import { faults, sandbox } from './sandbox.ts';
import { begun, difference, managerWith } from './walk.ts';

const { after, signal } = cleanUp();

async function world() {
  const box = await sandbox();
  after(box.remove);
  return box;
}
const one = (part: Partial<Step>): Step => ({
  name: 'one',
  check: async () => false,
  run: async () => [],
  verify: async () => undefined,
  undo: async () => [],
  ...part,
});
const shell = (text: string, more = {}) => ({
  kind: 'command' as const,
  command: { argv: ['sh', '-c', text], timeoutMs: 60_000, ...more },
});

test('the agent stops in the middle: nothing is undone, and the next one goes on', async () => {
  const box = await world();
  let slow = true;
  const steps = () => [...exampleSteps(), one({ run: async () => [shell(slow ? 'echo here; sleep 300' : 'true')], afterCrash: 'repeat' })];
  const manager = box.manager(steps);
  await manager.start();
  await manager.begin(request());
  const seen = new AbortController();
  for await (const line of manager.log({ follow: true, signal: AbortSignal.any([seen.signal, signal()]) }))
    if (line.endsWith('one here')) seen.abort();
  await manager.stop();
  expect(manager.last()).toMatchObject({ phase: 'Running' });
  await expect(manager.begin(request())).rejects.toMatchObject({ status: { code: 503 } });
  slow = false;
  const next = box.manager(steps);
  await next.start();
  await expect(next.begin(request())).rejects.toMatchObject({ status: { code: 409 } });
  await next.settled();
  expect(next.last()).toMatchObject({ phase: 'Succeeded', resumed: 1 });
  await next.stop();
});

test('a step in which the agent dies again and again is given up and undone', async () => {
  const box = await world();
  const before = await box.tree();
  const steps = () => [...tinySteps(), one({ run: async () => [shell('echo here; sleep 300')], afterCrash: 'repeat' })];
  for (let round = 0; round < 4; round++) {
    const manager = box.manager(steps);
    await manager.start();
    if (round === 0) await manager.begin(request());
    await vi.waitFor(() => expect(manager.last()?.steps.at(-1)?.state).toBe('Running'));
    await vi.waitFor(() => expect(manager.last()?.resumed ?? 0).toBe(round), 20_000);
    await manager.stop();
  }
  const last = box.manager(steps);
  await last.start();
  await last.settled();
  expect(last.last()).toMatchObject({ phase: 'Failed', message: expect.stringContaining('the agent died 4 times while it ran') });
  expect(difference(await box.tree(), before)).toBeUndefined();
  await last.stop();
});

test('what cannot be undone is said with the command to type, and the rest is undone; Delete then takes it back', async () => {
  const box = await world();
  const before = await box.tree();
  let stuck = true;
  const steps = () =>
    failingSteps().map((step) =>
      step.name === 'tool' ? { ...step, undo: async () => (stuck ? [shell('echo stuck; exit 9')] : []) } : step,
    );
  const manager = box.manager((asked) => (asked.type === 'Delete' ? [] : steps()));
  await manager.start();
  await manager.begin(request());
  await manager.settled();
  expect(manager.last()).toMatchObject({
    phase: 'Failed',
    message: expect.stringMatching(/step broken failed: .*NOT undone: step tool: .*stuck/),
    nextCommand: "sh -c 'echo stuck; exit 9'",
  });
  expect(manager.last()?.steps.map(({ state }) => state)).toEqual(['Undone', 'Failed', 'Skipped', 'Undone', 'Undone', 'Undone', 'Undone']);
  expect(difference(await box.tree(), before), 'its files are put back all the same').toBeUndefined();
  stuck = false;
  await manager.begin(request('Delete'));
  await manager.settled();
  expect(manager.last()).toMatchObject({ phase: 'Succeeded', steps: [{ name: 'remove-tool' }, { name: 'restore-files' }] });
  expect(difference(await box.tree(), before)).toBeUndefined();
  await manager.stop();
});

test('what an operation that failed has put back is not watched as what it wrote; what it could not put back is', async () => {
  const box = await world();
  const write = (path: string, content: string) => ({ kind: 'write' as const, path, content, mode: 0o644 });
  const install = [one({ run: async () => [write('/etc/app.conf', 'of install'), write('/etc/gone.conf', 'of install')] })];
  const upgrade = [
    one({ name: 'configure', run: async () => [write('/etc/app.conf', 'of upgrade'), { kind: 'remove', path: '/etc/gone.conf' }] }),
    one({ name: 'stuck', run: async () => [write('/etc/stuck.conf', 'x'), write('/etc/put-back.conf', 'x')] }),
    one({ name: 'broken', run: async () => [shell('exit 1')] }),
  ];
  const machine = {
    ...box.machine,
    async remove(path: string) {
      if (path === '/etc/stuck.conf') throw new Error('EBUSY: resource busy');
      await box.machine.remove(path);
    },
  };
  const manager = box.manager(({ type }) => (type === 'Install' ? install : upgrade), { machine });
  await manager.start();
  await manager.begin(request());
  await manager.settled();
  const before = await manager.written();
  expect(before.map(({ path }) => path)).toEqual(['/etc/app.conf', '/etc/gone.conf']);
  await manager.begin(request('Upgrade'));
  await manager.settled();
  expect(manager.last()).toMatchObject({ phase: 'Failed', message: expect.stringContaining('NOT undone: step stuck: /etc/stuck.conf') });
  const after = await manager.written();
  expect(after.slice(0, 2)).toEqual(before);
  expect(after.slice(2).map(({ path }) => path)).toEqual(['/etc/stuck.conf']);
  expect(await findDrift(box.machine, after, { thorough: true, signal: signal() })).toEqual([]);
  await manager.stop();
});

test('the listener is asked again until it has recorded the end, also after a crash; nothing begins before', async () => {
  const box = await world();
  const manager = box.manager(tinySteps);
  let calls = 0;
  manager.onEnd(async () => {
    if (++calls < 3) throw new Error('the disk is full');
  });
  await manager.start();
  await manager.begin(request());
  await manager.settled();
  expect(calls).toBe(3);
  await manager.stop();
  // The agent dies between the end and the word about it.
  const probe = faults();
  const other = await world();
  await begun(other, tinySteps, probe);
  const crashAt = probe.passed.indexOf('after journal "kind":"ended"');
  const third = await world();
  expect(await begun(third, tinySteps, faults({ crashAt }))).toBe('crashed');
  const next = third.manager(tinySteps);
  const heard: string[] = [];
  next.onEnd(async (asked, operation) => void heard.push(`${asked.requester.user} ${operation.phase}`));
  await next.start();
  await next.settled();
  expect(heard).toEqual(['ada Succeeded']);
  await next.stop();
});

test('secrets reach neither log, journal, message nor plan', async () => {
  const box = await world();
  const token = 'abcdef.0123456789abcdef';
  const steps = () => [
    one({
      run: async () => [
        { kind: 'write', path: '/etc/secret', content: 'password=pa55word', mode: 0o600, secret: true },
        shell(`echo token ${token}; echo "$REGISTRY_PASSWORD and given-value"; echo pa55word; exit 1`, {
          env: { REGISTRY_PASSWORD: 'from-env' },
        }),
        shell('echo s3cr3t', { secret: true }),
      ],
    }),
  ];
  const manager = box.manager(steps, { secrets: () => ['given-value', 'pa55word'] });
  await manager.start();
  const plan = await manager.plan(request());
  expect(plan.actions[0]).toEqual({ step: 'one', kind: 'write', path: '/etc/secret', mode: '0600', text: 'write /etc/secret' });
  expect(plan.actions[2]).toMatchObject({ argv: ['sh'] });
  await manager.begin(request());
  await manager.settled();
  const lines: string[] = [];
  for await (const line of manager.log({ follow: false, signal: signal() })) lines.push(line);
  const [journal = ''] = await box.journals();
  const all = JSON.stringify([manager.last(), lines, await readFile(journal, 'utf8'), plan]);
  expect(all).toContain('(hidden)');
  for (const secret of [token, 'from-env', 'given-value', 'pa55word', 's3cr3t']) expect(all).not.toContain(secret);
  await manager.stop();
});

test('a plan names the exact commands and files and changes nothing', async () => {
  const box = await world();
  const manager = box.manager(({ type }) => (type === 'Delete' ? [] : exampleSteps()));
  await manager.start();
  const before = await box.tree();
  const { actions } = await manager.plan(request());
  expect(actions.map(({ text }) => text)).toEqual([
    'write /etc/app.conf',
    'write /etc/deep/er/file',
    'remove /etc/old.conf',
    'fetch bin/tool to /usr/bin/tool',
    'make-data x',
    'write /etc/systemd/system/app.service',
    'daemon-reload app',
    'start app',
    'wait: app to be active',
    'make-db',
    'stamp done',
  ]);
  expect(actions[0]).toEqual({
    step: 'files',
    kind: 'write',
    path: '/etc/app.conf',
    mode: '0600',
    content: 'new = 1\n',
    text: 'write /etc/app.conf',
  });
  expect(await box.tree()).toEqual(before);
  expect(await readdir(box.stateDir)).toEqual([]);
  await manager.begin(request());
  await manager.settled();
  const deletion = await manager.plan(request('Delete'));
  expect(deletion.actions[0]).toMatchObject({ step: 'remove-stamp', argv: ['unstamp'] });
  expect(deletion.actions).toContainEqual({
    step: 'restore-files',
    kind: 'write',
    path: '/etc/app.conf',
    text: 'put /etc/app.conf back as it was before the cluster',
  });
  await manager.stop();
});

test('a wait that is not fulfilled says what for, and the last words of the one who looked', async () => {
  const box = await world();
  const steps = () => [
    one({
      run: async () => [
        { kind: 'wait', text: 'the node to be Ready', until: () => Promise.reject(new StepError('no answer')), timeoutMs: 50 },
      ],
    }),
  ];
  const manager = managerWith(box, steps, faults());
  await manager.start();
  await manager.begin(request());
  await manager.settled();
  expect(manager.last()?.message).toMatch(/the node to be Ready: not so within 0.05 s: no answer/);
  await manager.stop();
});

test('many operations: the last ten are kept, and what Delete will need', async () => {
  const box = await world();
  const manager = box.manager(({ type }) =>
    type === 'Delete' ? [] : type === 'Install' ? exampleSteps() : [one({ check: async () => true })],
  );
  await manager.start();
  const before = await box.tree();
  await manager.begin(request());
  await manager.settled();
  for (let n = 0; n < 14; n++) {
    await manager.begin(request('Patch'));
    await manager.settled();
  }
  expect(await readdir(join(box.stateDir, 'lifecycle/operations'))).toHaveLength(11);
  await manager.begin(request('Delete'));
  await manager.settled();
  expect(difference(await box.tree(), before)).toBeUndefined();
  expect(await readdir(join(box.stateDir, 'lifecycle/operations'))).toHaveLength(10);
  await manager.stop();
});
