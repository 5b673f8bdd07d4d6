import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { localDisk } from '../../../../src/agent/lifecycle/operations/disk.ts';
import { createJournal, JournalDamaged, openJournal, parseJournal } from '../../../../src/agent/lifecycle/operations/journal.ts';
import type { JournalRecord } from '../../../../src/agent/lifecycle/operations/records.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { exampleSteps, request } from './example.ts';
import { faults } from './sandbox.ts';
import { begun, inSandbox } from './walk.ts';

const { after } = cleanUp();
const at = '2026-11-21T16:00:00.000Z';

async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'fairlead-journal-'));
  after(() => rm(made, { recursive: true, force: true }));
  return made;
}

/** The journal of a whole operation. */
const written = () =>
  inSandbox(async (box) => {
    await begun(box, exampleSteps, faults());
    const [path = ''] = await box.journals();
    return readFile(path);
  });

test('R64: a journal cut at any byte is what it was before its last record', async () => {
  const bytes = await written();
  const { records } = parseJournal(bytes, 'j');
  expect(records.length).toBeGreaterThan(50);
  for (let length = 0; length <= bytes.length; length++) {
    const cut = bytes.subarray(0, length);
    const whole = cut.toString('latin1').split('\n').length - 1;
    const found = parseJournal(cut, 'j');
    expect(found.records.length).toBe(whole);
    expect(found.length).toBe(whole === 0 ? 0 : cut.lastIndexOf('\n') + 1);
  }
  expect(parseJournal(bytes.subarray(0, -1), 'j').records).toEqual(records.slice(0, -1));
});

test('a byte that changed anywhere before the last two lines is an error that names the file', async () => {
  const bytes = await written();
  const lines = bytes.toString('latin1').split('\n');
  const end = bytes.length - Buffer.byteLength(lines.slice(-3).join('\n'), 'latin1') - 1;
  for (let n = 0; n < end; n++) {
    const changed = Buffer.from(bytes);
    changed[n] = (changed[n] ?? 0) ^ 1;
    expect(() => parseJournal(changed, '/j'), `byte ${n}`).toThrow(JournalDamaged);
  }
  expect(() => parseJournal(Buffer.concat([Buffer.from('x\n'), bytes]), '/j')).toThrow('the journal /j is damaged in line 1');
});

test('what a failed write left half done is gone with the next', async () => {
  const path = join(await folder(), 'journal');
  const journal = await createJournal(localDisk, path, { kind: 'begin', at, id: '1', request: request(), steps: ['a'], installed: [] });
  const done: JournalRecord = { kind: 'step', step: 'a', state: 'Running', at };
  const whole = (await readFile(path)).length;
  await writeFile(path, `${await readFile(path, 'utf8')}garbage that is much longer than the record which comes next ${'x'.repeat(500)}`);
  await journal.append(done);
  expect(parseJournal(await readFile(path), path).records.slice(1)).toEqual([done]);
  expect((await readFile(path)).length).toBeGreaterThan(whole);
  const again = await openJournal(localDisk, path);
  expect(again?.state.steps).toEqual([{ name: 'a', state: 'Running', startedAt: at }]);
});

test('a damaged journal: nothing begins, and the agent says which file and what to type', async () => {
  await inSandbox(async (box) => {
    await begun(box, exampleSteps, faults({ crashAt: 60 }));
    const [path = ''] = await box.journals();
    const bytes = await readFile(path);
    bytes[bytes.indexOf('\n') + 30] = 0;
    await writeFile(path, bytes);
    const manager = box.manager(exampleSteps);
    await manager.start();
    expect(manager.last()).toMatchObject({
      type: 'Install',
      phase: 'Failed',
      message: expect.stringContaining(path),
      nextCommand: `mv ${path} ${path}.damaged`,
    });
    await expect(manager.begin(request())).rejects.toMatchObject({ status: { code: 503 } });
    await manager.stop();
  });
});
