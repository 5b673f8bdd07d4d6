import { execFile } from 'node:child_process';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, type TestContext, test } from 'vitest';
import { verifyChain } from '../../../src/hub/audit/verify.ts';
import { eventually } from '../auth/eventually.ts';
import { entry, linesOf, logOf, notesIn, numbersIn, upTo } from './entries.ts';
import { folder } from './folder.ts';

const run = promisify(execFile);

/** A file system of 64 KiB that is unmounted when the test ends; skips the test where it cannot be mounted. */
async function smallDisk(context: TestContext): Promise<string> {
  const disk = join(await folder(context), 'disk');
  await mkdir(disk);
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
  } catch (error) {
    context.skip(`a small file system can only be mounted as root: ${String(error).split('\n')[0]}`);
  }
  context.onTestFinished(async () => {
    await run('umount', ['-l', disk]);
  });
  return disk;
}

/** Takes all that is left of the disk. */
function fill(path: string): void {
  const file = openSync(path, constants.O_WRONLY | constants.O_CREAT);
  try {
    for (;;) writeSync(file, Buffer.alloc(4_096));
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
  } finally {
    closeSync(file);
  }
}

test('R66: disk full: problem() is set, nothing is lost, and it works again when there is room', async (context) => {
  const disk = await smallDisk(context);
  const path = join(disk, 'audit.log');
  const log = logOf(path, context);
  for (const number of upTo(3)) log.write(entry(number));
  await log.flush();
  expect(log.problem()).toBeUndefined();
  fill(join(disk, 'filler'));

  let number = 3;
  await eventually('problem()', async () => {
    log.write(entry(number++));
    await log.flush().catch(() => undefined);
    return log.problem() !== undefined;
  });
  expect(log.problem()).toContain('ENOSPC');
  const { size } = await stat(path);
  for (const more of upTo(number + 10, number)) log.write(entry(more));
  await expect(log.flush()).rejects.toThrow(/ENOSPC/);
  expect(log.problem()).toContain('ENOSPC');
  expect((await stat(path)).size).toBe(size);
  // All that is in the file is whole, also while the disk is full.
  expect((await verifyChain(path)).firstBreak?.kind).toBeUndefined();

  await rm(join(disk, 'filler'));
  await eventually('recovery', () => log.problem() === undefined);
  log.write(entry(number + 10));
  await log.close();
  const lines = await linesOf(path);
  expect(numbersIn(lines)).toEqual(upTo(number + 11));
  expect(notesIn(lines)).toEqual(['start', 'outage']);
  expect(lines.find((line) => line.note === 'outage')).toMatchObject({ lost: 0, problem: expect.stringContaining('ENOSPC') as string });
  expect(log.told.filter((text) => text.includes('works again'))).toHaveLength(1);
  expect(await verifyChain(path)).toMatchObject({ ok: true, lines: number + 13 });
});

test('R66: a file system that becomes read-only: problem() is set, and it works again when it is writable', async (context) => {
  const disk = await smallDisk(context);
  const path = join(disk, 'audit.log');
  const log = logOf(path, context);
  log.write(entry(0));
  await log.flush();
  // The log holds its file open for writing, which only a forced remount of another kind overrides; a new start meets the read-only disk.
  await log.close();
  await run('mount', ['-o', 'remount,ro', disk]);
  const next = logOf(path, context);
  next.write(entry(1));
  await expect(next.flush()).rejects.toThrow(/EROFS/);
  expect(next.problem()).toContain('EROFS');
  await run('mount', ['-o', 'remount,rw', disk]);
  await eventually('recovery', () => next.problem() === undefined);
  await next.close();
  expect(numbersIn(await linesOf(path))).toEqual([0, 1]);
  expect(await verifyChain(path)).toMatchObject({ ok: true });
});

test('a head that cannot be written is a problem too, and does not make the log grow by itself', async (context) => {
  const disk = await folder(context);
  const path = join(disk, 'audit.log');
  const log = logOf(path, context);
  await log.flush();
  // A directory in the place of the head's new text: the log itself can be written, the head cannot.
  await mkdir(`${path}.head.new`);
  log.write(entry(0));
  await expect(log.flush()).rejects.toThrow(/EISDIR/);
  const { size } = await stat(path);
  for (let again = 0; again < 5; again++) await expect(log.flush()).rejects.toThrow(/EISDIR/);
  expect((await stat(path)).size).toBe(size);
  await rm(`${path}.head.new`, { recursive: true });
  await eventually('recovery', () => log.problem() === undefined);
  await log.close();
  expect(await verifyChain(path)).toMatchObject({ ok: true });
});
