import { execFile } from 'node:child_process';
import { copyFile, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { seal } from '../../../src/hub/audit/chain.ts';
import { verifyChain } from '../../../src/hub/audit/verify.ts';
import { drawing } from '../../support/counts.ts';
import { entry, logOf, upTo } from './entries.ts';
import { folder } from './folder.ts';

const run = promisify(execFile);
const randomInt = drawing();
const CLI = new URL('../../../hack/audit-verify.ts', import.meta.url).pathname;

/** A way to falsify a log, and what verifyChain may call it. `lines` are without newlines. */
type Attack = { name: string; kinds: string[]; change: (lines: string[]) => string };
const whole = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join('');
/** Two different indices in order. */
function pair(length: number): [number, number] {
  const one = randomInt(length);
  const other = (one + 1 + randomInt(length - 1)) % length;
  return [Math.min(one, other), Math.max(one, other)];
}

const attacks: Attack[] = [
  {
    name: 'one byte changed anywhere',
    // The last newline: then the last line is not whole any more.
    kinds: ['edited', 'cutAtEnd'],
    change: (lines) => {
      const bytes = Buffer.from(whole(lines));
      const at = randomInt(bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << randomInt(8));
      return bytes.toString('latin1');
    },
  },
  {
    name: 'who did it changed',
    kinds: ['edited'],
    change: (lines) => {
      const at = 1 + randomInt(lines.length - 1);
      return whole(lines.with(at, (lines[at] ?? '').replace('"ann"', '"bob"')));
    },
  },
  {
    name: 'a line changed and its hash made right',
    kinds: ['edited'],
    change: (lines) => {
      const at = 1 + randomInt(lines.length - 1);
      const { seq, prev, hash: _, ...rest } = JSON.parse(lines[at] ?? '') as { seq: number; prev: string; hash: string };
      const { line } = seal(JSON.stringify({ ...rest, user: { username: 'bob' } }), { seq: seq - 1, hash: prev }, undefined);
      return whole(lines.with(at, line.trimEnd()));
    },
  },
  {
    name: 'lines removed inside',
    kinds: ['missing'],
    change: (lines) => {
      const [from, to] = pair(lines.length - 2);
      return whole(lines.toSpliced(from + 1, to - from));
    },
  },
  { name: 'the beginning cut off', kinds: ['cutAtBeginning'], change: (lines) => whole(lines.slice(1 + randomInt(lines.length - 1))) },
  { name: 'the end cut off', kinds: ['cutAtEnd'], change: (lines) => whole(lines.slice(0, randomInt(lines.length))) },
  { name: 'cut within a line', kinds: ['cutAtEnd'], change: (lines) => whole(lines).slice(0, -1 - randomInt(5_000)) },
  {
    name: 'two lines swapped',
    kinds: ['reordered'],
    change: (lines) => {
      const [one, other] = pair(lines.length);
      return whole(lines.with(one, lines[other] ?? '').with(other, lines[one] ?? ''));
    },
  },
  {
    name: 'a line repeated',
    kinds: ['reordered'],
    change: (lines) => {
      const [from, to] = pair(lines.length);
      return whole(lines.toSpliced(to + 1, 0, lines[from] ?? ''));
    },
  },
  {
    name: 'a line put in',
    kinds: ['edited'],
    change: (lines) => whole(lines.toSpliced(1 + randomInt(lines.length - 1), 0, '{"kind":"Event"}')),
  },
];

test('R66: 100 random edits, cuts and reorders of a log: each is found and called by its name', async (context) => {
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  for (const number of upTo(60)) log.write(entry(number));
  await log.close();
  const original = await readFile(path, 'utf8');
  const lines = original.split('\n').slice(0, -1);
  expect(await verifyChain(path)).toMatchObject({ ok: true, lines: 61 });
  let found = 0;
  for (const attack of upTo(10).flatMap(() => attacks)) {
    const changed = attack.change(lines);
    expect(changed, attack.name).not.toBe(original);
    await writeFile(path, changed, 'latin1');
    const { ok, firstBreak } = await verifyChain(path);
    expect(ok, attack.name).toBe(false);
    expect(attack.kinds, `${attack.name}: ${JSON.stringify(firstBreak)}`).toContain(firstBreak?.kind);
    expect(firstBreak?.line, attack.name).toBeGreaterThan(0);
    found++;
  }
  expect(found).toBe(100);
  await writeFile(path, original);
  expect(await verifyChain(path)).toMatchObject({ ok: true, lines: 61 });
});

test('an invalid byte in place of a replacement character is found: bytes are hashed, not decoded text', async (context) => {
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  log.write({ ...entry(0), userAgent: '\ufffd' });
  await log.close();
  const bytes = await readFile(path);
  const at = bytes.indexOf(Buffer.from('\ufffd'));
  expect(at).toBeGreaterThan(0);
  await writeFile(path, Buffer.concat([bytes.subarray(0, at), Buffer.from([0xff]), bytes.subarray(at + 3)]));
  expect(await verifyChain(path)).toMatchObject({ ok: false, firstBreak: { kind: 'edited', line: 2 } });
});

test('hack/audit-verify.ts: several files in their order, exit codes 0, 1 and 2', async (context) => {
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  log.write(entry(0));
  await log.flush();
  await rename(path, `${path}.1`);
  log.write(entry(1));
  await log.close();
  const good = await run(process.execPath, [CLI, `${path}.1`, path]);
  expect(good.stdout).toContain(`${path}: ok: 2 lines, ends with number 3`);
  const failure = (args: string[]) =>
    run(process.execPath, [CLI, ...args]).then(
      () => ({ code: 0, stdout: '' }),
      (error: unknown) => error as { code: number; stdout: string },
    );
  expect(await failure([path])).toMatchObject({ code: 1, stdout: expect.stringContaining('BROKEN at line 1: cutAtBeginning') as string });
  await copyFile(`${path}.1`, `${path}.2`);
  expect((await failure([`${path}.2`])).code).toBe(1);
  expect((await failure(['--no-head', `${path}.2`])).code).toBe(0);
  expect((await failure([])).code).toBe(2);
  expect((await failure(['--nonsense'])).code).toBe(2);
});
