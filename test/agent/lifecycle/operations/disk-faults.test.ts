import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, type TestContext, test, vi } from 'vitest';
import type { OperationManager } from '../../../../src/agent/lifecycle/operations/request.ts';
import type { Step } from '../../../../src/agent/lifecycle/operations/step.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { exampleSteps, request } from './example.ts';
import { faults, type Sandbox, sandbox } from './sandbox.ts';
import { begun, difference, forEach, inSandbox, recovered } from './walk.ts';

const { after } = cleanUp();

/** A file system of its own, of so many KiB; undefined where that is not allowed. */
async function fileSystem(kibibytes: number): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-full-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kibibytes}k`, 'fairlead', folder], { stdio: 'ignore' });
  } catch {
    await rm(folder, { recursive: true, force: true });
    return undefined;
  }
  after(async () => {
    execFileSync('umount', ['-l', folder]);
    await rm(folder, { recursive: true, force: true });
  });
  return folder;
}

async function smallSandbox(context: TestContext, kibibytes: number): Promise<Sandbox> {
  const folder = await fileSystem(kibibytes);
  if (folder === undefined) return context.skip('a file system can only be mounted as root');
  return sandbox(folder);
}

/** The example, and before its last step 256 KiB in four files. */
const bigSteps = (): Step[] => {
  const [last, ...others] = exampleSteps().reverse();
  const big: Step = {
    name: 'big',
    check: async () => false,
    run: async () =>
      [1, 2, 3, 4].map((n) => ({ kind: 'write' as const, path: `/opt/big/${n}`, content: 'x'.repeat(64 * 1024), mode: 0o644 })),
    verify: async () => undefined,
    undo: async () => [],
  };
  return [...others.reverse(), big, ...(last ? [last] : [])];
};

/** Says how an operation went, and fails unless the machine is whole: as before, unless it succeeded. */
async function outcome(box: Sandbox, manager: OperationManager, before: Map<string, string>): Promise<string> {
  await manager.start();
  const refused = await manager.begin(request()).then(
    () => undefined,
    (error: { status?: { code?: number } }) => `refused ${error.status?.code}`,
  );
  await manager.settled();
  await manager.stop();
  const operation = manager.last();
  const phase = refused ?? operation?.phase ?? 'nothing';
  if (phase !== 'Succeeded') expect(difference(await box.tree(), before), phase).toBeUndefined();
  if (phase === 'Failed') expect(operation?.message).toMatch(/ENOSPC|no space|No space|I\/O error/);
  return phase;
}

test('R65: a disk that is full, at seven sizes: refused or undone, and as it was before', async (context) => {
  const seen = new Set<string>();
  // 256 KiB are set aside for the journal of undoing.
  for (const kibibytes of [256, 340, 380, 440, 500, 560, 2_000]) {
    const box = await smallSandbox(context, kibibytes);
    seen.add(await outcome(box, box.manager(bigSteps), await box.tree()));
  }
  expect([...seen].sort()).toEqual(['Failed', 'Succeeded', 'refused 503']);
});

test('R65: a file system that is read-only: refused before it begins; and in the middle it waits, and undoes when it can write', async (context) => {
  const box = await smallSandbox(context, 4_000);
  const folder = join(box.root, '..');
  const remount = (how: string) => execFileSync('mount', ['-o', `remount,${how}`, folder]);
  const before = await box.tree();
  remount('ro');
  const errors: unknown[] = [];
  const steps = () =>
    exampleSteps().map((step) => {
      if (step.name !== 'database') return step;
      return {
        ...step,
        run: async (given: Parameters<typeof step.run>[0]) => {
          remount('ro');
          return step.run(given);
        },
      };
    });
  const manager = box.manager(steps, { onError: (error) => errors.push(error) });
  await manager.start();
  await expect(manager.begin(request())).rejects.toMatchObject({ status: { code: 503, message: expect.stringContaining('EROFS') } });
  remount('rw');
  await manager.begin(request());
  const waiting = errors.length;
  await vi.waitFor(() => expect(errors.length).toBeGreaterThan(waiting + 2), 30_000);
  expect(manager.last()).toMatchObject({ phase: 'Running', message: expect.stringMatching(/^waiting: .*EROFS/) });
  remount('rw');
  await manager.settled();
  expect(manager.last()).toMatchObject({ phase: 'Failed', message: expect.stringContaining('EROFS') });
  expect(difference(await box.tree(), before)).toBeUndefined();
  await manager.stop();
});

test('R65: an artifact that was swapped, cut off or removed: undone', async () => {
  const swaps: ((tool: string) => Promise<void>)[] = [
    (tool) => writeFile(tool, '#!/bin/sh\necho evil\n'),
    (tool) => truncate(tool, 5),
    (tool) => rm(tool),
  ];
  await forEach(swaps.length, (n) =>
    inSandbox(async (box) => {
      const before = await box.tree();
      await swaps[n]?.(join(box.artifacts, 'bin/tool'));
      await begun(box, exampleSteps, faults());
      expect(await recovered(box, exampleSteps)).toMatchObject({
        phase: 'Failed',
        message: expect.stringMatching(/artifact bin\/tool .*everything was undone/),
      });
      expect(difference(await box.tree(), before)).toBeUndefined();
    }),
  );
});

test('R65: power lost in the middle of writing a manifest: no half of it is ever seen, and nothing is left of it', async () => {
  await inSandbox(async (box) => {
    const before = await box.tree();
    const probe = faults();
    await inSandbox((other) => begun(other, exampleSteps, probe));
    const crashAt = probe.passed.indexOf('in write /etc/app.conf');
    expect(await begun(box, exampleSteps, faults({ crashAt }))).toBe('crashed');
    expect((await box.tree()).get('/etc/app.conf')).toBe(before.get('/etc/app.conf'));
    const failing = () =>
      exampleSteps().map((step) => (step.name === 'files' ? { ...step, run: () => Promise.reject(new Error('no')) } : step));
    expect(await recovered(box, failing)).toMatchObject({ phase: 'Failed' });
    expect(difference(await box.tree(), before)).toBeUndefined();
  });
});

test('R65: a claimed tree of more than 512 MiB is refused before anything of the step is done', async () => {
  await inSandbox(async (box) => {
    await writeFile(join(box.root, 'var/data/large'), '');
    await truncate(join(box.root, 'var/data/large'), 600 * 1024 * 1024);
    const ran: string[] = [];
    const steps = () => exampleSteps().filter(({ name }) => name === 'tool');
    const machine = {
      ...box.machine,
      run: async (...given: Parameters<typeof box.machine.run>) => {
        ran.push(given[0].argv.join(' '));
        return box.machine.run(...given);
      },
    };
    const manager = box.manager(steps, { machine });
    await manager.start();
    await manager.begin(request());
    await manager.settled();
    expect(manager.last()).toMatchObject({
      phase: 'Failed',
      message: expect.stringContaining('/var/data is too large to be saved before it is changed'),
    });
    expect(ran).toEqual([]);
    await manager.stop();
  });
});
