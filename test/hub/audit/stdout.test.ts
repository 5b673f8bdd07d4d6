import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { expect, type TestContext, test } from 'vitest';
import { verifyChain } from '../../../src/hub/audit/verify.ts';
import { eventually } from '../auth/eventually.ts';
import { linesOf, numbersIn, upTo } from './entries.ts';
import { folder } from './folder.ts';

const WRITER = new URL('stdout-writer.ts', import.meta.url).pathname;

function start(count: number, { onTestFinished }: TestContext): ChildProcessByStdio<Writable, Readable, Readable> {
  const child = spawn(process.execPath, [WRITER, String(count)], { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => undefined);
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

test('standard output: a slow reader gets the same chain, whole', async (context) => {
  const child = start(500, context);
  const chunks: Buffer[] = [];
  child.stdin.end();
  const closed = once(child, 'close');
  const idle = () => undefined;
  child.stdout.on('readable', idle);
  await eventually('as much as is read ahead', () => child.stdout.readableLength >= child.stdout.readableHighWaterMark);
  child.stdout.off('readable', idle);
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) chunks.push(chunk);
  await closed;
  expect(child.exitCode).toBe(0);
  const path = join(await folder(context), 'copy');
  await writeFile(path, Buffer.concat(chunks));
  expect(await verifyChain(path, { head: false })).toMatchObject({ ok: true, lines: 501 });
  expect(numbersIn(await linesOf(path))).toEqual(upTo(500));
});

test('standard output whose reader is gone: a problem, and the process lives', async (context) => {
  const child = start(0, context);
  let told = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  child.stdin.write('\n');
  await eventually('a good write', () => told.includes('problem none'));
  child.stdout.destroy();
  await eventually('the problem', () => {
    child.stdin.write('\n');
    return told.includes('problem EPIPE');
  });
  expect(child.exitCode).toBeNull();
  expect(child.signalCode).toBeNull();
  child.stdin.end();
  await once(child, 'close');
  expect(child.exitCode).toBe(0);
  expect(told).toContain('lines were lost at the end');
});
