import { randomBytes } from 'node:crypto';
import { appendFile, copyFile, mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readAuditKey } from '../../../src/hub/audit/key.ts';
import { verifyChain } from '../../../src/hub/audit/verify.ts';
import { eventually } from '../auth/eventually.ts';
import { entry, linesOf, logOf, notesIn, numbersIn, upTo } from './entries.ts';
import { folder } from './folder.ts';

test('the chain goes on after a restart, and every line is an Event or a note', async (context) => {
  const path = join(await folder(context), 'audit.log');
  for (const start of [0, 10, 20]) {
    const log = logOf(path, context);
    for (const number of upTo(start + 10, start)) log.write(entry(number));
    await log.close();
    expect(log.told).toEqual([]);
    expect(log.problem()).toBe('the audit log is closed');
  }
  const lines = await linesOf(path);
  expect(numbersIn(lines)).toEqual(upTo(30));
  expect(notesIn(lines)).toEqual(['start', 'resumed', 'resumed']);
  expect(lines.map((line) => line.seq)).toEqual(upTo(33));
  expect(await verifyChain(path)).toMatchObject({ ok: true, lines: 33, last: { seq: 32 } });
  expect(JSON.parse(await readFile(`${path}.head`, 'utf8'))).toMatchObject({ seq: 32 });
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test('the head follows by itself while the queue is never empty', async (context) => {
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  let number = 0;
  let producing = true;
  const produce = () => {
    if (!producing) return;
    for (let more = 0; more < 3; more++) log.write(entry(number++));
    setImmediate(produce);
  };
  produce();
  context.onTestFinished(() => {
    producing = false;
  });
  const head = () =>
    readFile(`${path}.head`, 'utf8').then(
      (text) => (JSON.parse(text) as { seq: number }).seq,
      () => -1,
    );
  await eventually('a head beyond 100 while lines are written', async () => (await head()) > 100);
  producing = false;
  await log.close();
  expect(await verifyChain(path)).toMatchObject({ ok: true, lines: number + 1 });
});

test('a torn last line is kept aside and noted; nothing whole is lost', async (context) => {
  const dir = await folder(context);
  const path = join(dir, 'audit.log');
  const first = logOf(path, context);
  for (const number of upTo(5)) first.write(entry(number));
  await first.close();
  await appendFile(path, '{"kind":"Event","half of a li');
  expect(await verifyChain(path)).toMatchObject({ ok: false, firstBreak: { kind: 'torn', line: 7 } });

  const second = logOf(path, context);
  second.write(entry(5));
  await second.close();
  const lines = await linesOf(path);
  expect(numbersIn(lines)).toEqual(upTo(6));
  const note = lines.find((line) => line.note === 'torn');
  expect(note).toMatchObject({ bytes: 29 });
  expect(await readFile(join(dir, note?.keptIn ?? ''), 'utf8')).toBe('{"kind":"Event","half of a li');
  expect(second.told.join()).toContain('torn');
  expect(await verifyChain(path)).toMatchObject({ ok: true });
});

test('what was cut off while the process was down is never healed', async (context) => {
  const path = join(await folder(context), 'audit.log');
  const first = logOf(path, context);
  for (const number of upTo(10)) first.write(entry(number));
  await first.close();
  const text = await readFile(path, 'utf8');
  await writeFile(path, text.split('\n').slice(0, 8).join('\n').concat('\n'));
  const second = logOf(path, context);
  second.write(entry(10));
  await second.close();
  expect(second.told.join()).toContain('the file ends with 7, the head is at 10');
  expect(await verifyChain(path)).toMatchObject({ ok: false, firstBreak: { kind: 'missing', line: 9 } });
});

test('a missing head is told and noted', async (context) => {
  const path = join(await folder(context), 'audit.log');
  await logOf(path, context).close();
  await rm(`${path}.head`);
  expect(await verifyChain(path)).toMatchObject({ ok: false, firstBreak: { kind: 'noHead' } });
  const log = logOf(path, context);
  await log.close();
  expect((await linesOf(path)).at(-1)).toMatchObject({ note: 'resumed', mismatch: 'there is no head file' });
});

test.for([
  ['with reopen()', true],
  ['noticed by itself', false],
] as const)('log rotation %s: the chain goes through both files', async ([, told], context) => {
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  for (const number of upTo(10)) log.write(entry(number));
  await log.flush();
  await rename(path, `${path}.1`);
  if (told) await log.reopen();
  for (const number of upTo(20, 10)) log.write(entry(number));
  await log.close();
  const before = await verifyChain(`${path}.1`, { head: false });
  expect(before).toMatchObject({ ok: true, lines: 11 });
  expect(await verifyChain(path)).toMatchObject({ ok: false, firstBreak: { kind: 'cutAtBeginning', line: 1 } });
  expect(before.last).toBeDefined();
  expect(await verifyChain(path, { ...(before.last && { after: before.last }) })).toMatchObject({ ok: true, lines: 11 });
  expect(numbersIn(await linesOf(path))).toEqual(upTo(20, 10));
});

test('log rotation by copy and truncate: noted, and the chain goes through both files', async (context) => {
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  for (const number of upTo(10)) log.write(entry(number));
  await log.flush();
  await copyFile(path, `${path}.1`);
  await truncate(path);
  log.write(entry(10));
  await log.close();
  expect(notesIn(await linesOf(path))).toEqual(['truncated']);
  const { last } = await verifyChain(`${path}.1`, { head: false });
  expect(await verifyChain(path, { ...(last && { after: last }) })).toMatchObject({ ok: true });
});

test('a line cut in the running process: the next one is not glued to the rest, and the break shows', async (context) => {
  const dir = await folder(context);
  const path = join(dir, 'audit.log');
  const log = logOf(path, context);
  for (const number of upTo(10)) log.write(entry(number));
  await log.flush();
  await truncate(path, (await stat(path)).size - 20);
  log.write(entry(10));
  await log.close();
  const lines = await linesOf(path);
  expect(notesIn(lines)).toEqual(['start', 'truncated', 'torn']);
  expect(numbersIn(lines)).toEqual([...upTo(9), 10]);
  expect(await verifyChain(path)).toMatchObject({ ok: false, firstBreak: { kind: 'missing' } });
});

test('a file of other content is kept aside, not written to and not lost', async (context) => {
  const dir = await folder(context);
  const path = join(dir, 'audit.log');
  await writeFile(path, 'something else\n');
  const log = logOf(path, context);
  log.write(entry(0));
  await log.close();
  const aside = (await readdir(dir)).find((name) => name.includes('.aside-'));
  expect(await readFile(join(dir, aside ?? ''), 'utf8')).toBe('something else\n');
  expect(notesIn(await linesOf(path))).toEqual(['start', 'setAside']);
  expect(await verifyChain(path)).toMatchObject({ ok: true });
});

test('with a key, nobody without it can write a line or a head; another key begins another file', async (context) => {
  const dir = await folder(context);
  const path = join(dir, 'audit.log');
  const keyFile = join(dir, 'key');
  await writeFile(keyFile, `${randomBytes(32).toString('hex')}\n`);
  const key = await readAuditKey(keyFile);
  const log = logOf(path, context, { key });
  for (const number of upTo(5)) log.write(entry(number));
  await log.close();
  expect(await verifyChain(path, { key })).toMatchObject({ ok: true, lines: 6 });
  expect(await verifyChain(path)).toMatchObject({ ok: false, firstBreak: { line: 1, kind: 'edited' } });
  const head = JSON.parse(await readFile(`${path}.head`, 'utf8')) as { seq: number; hash: string; mac: string };
  await writeFile(`${path}.head`, JSON.stringify({ ...head, seq: 4 }));
  expect(await verifyChain(path, { key })).toMatchObject({ ok: false, firstBreak: { kind: 'noHead' } });

  const other = logOf(path, context, { key: randomBytes(32) });
  await other.close();
  expect(notesIn(await linesOf(path))).toEqual(['start', 'setAside']);
  const aside = (await readdir(dir)).find((name) => name.includes('.aside-'));
  expect(await verifyChain(join(dir, aside ?? ''), { key, head: false })).toMatchObject({ ok: true, lines: 6 });

  await writeFile(keyFile, 'short\n');
  await expect(readAuditKey(keyFile)).rejects.toThrow(/has 5 bytes, needs 32/);
});

test('a place that cannot be written to: problem() at once, flush() says why, and it works as soon as the place does', async (context) => {
  const dir = await folder(context);
  const path = join(dir, 'later', 'audit.log');
  const log = logOf(path, context);
  log.write(entry(0));
  await expect(log.flush()).rejects.toThrow(/ENOENT/);
  expect(log.problem()).toContain('ENOENT');
  await mkdir(join(dir, 'later'));
  await eventually('recovery', () => log.problem() === undefined);
  await log.close();
  const lines = await linesOf(path);
  expect(numbersIn(lines)).toEqual([0]);
  expect(notesIn(lines)).toEqual(['start', 'outage']);
  expect(await verifyChain(path)).toMatchObject({ ok: true });
});

test('a full queue is a problem; what was lost is counted in the chain', async (context) => {
  const dir = await folder(context);
  const path = join(dir, 'later', 'audit.log');
  const log = logOf(path, context, { maxQueued: 20_000 });
  await expect(log.flush()).rejects.toThrow(/ENOENT/);
  for (const number of upTo(100)) log.write(entry(number));
  await mkdir(join(dir, 'later'));
  await eventually('recovery', () => log.problem() === undefined);
  log.write(entry(100));
  await log.close();
  const lines = await linesOf(path);
  const outage = lines.find((line) => line.note === 'outage');
  const kept = numbersIn(lines).length - 1;
  expect(kept).toBeGreaterThan(10);
  expect(outage).toMatchObject({ lost: 100 - kept });
  expect(numbersIn(lines)).toEqual([...upTo(kept), 100]);
  expect(await verifyChain(path)).toMatchObject({ ok: true });
});
