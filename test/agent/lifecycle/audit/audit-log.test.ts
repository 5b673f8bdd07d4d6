import { execFileSync } from 'node:child_process';
import { appendFile, mkdtemp, open, readFile, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type AuditLog, openAuditLog } from '../../../../src/agent/lifecycle/audit/audit-log.ts';
import { type AuditContent, chainEntry, FIRST_PREVIOUS, verifyChain } from '../../../../src/kube/audit-chain.ts';
import type { AuditEntry } from '../../../../src/kube/lifecycle.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { longRun } from '../../../support/counts.ts';

const clean = cleanUp();

async function place(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-audit-'));
  clean.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
async function opened(folder: string): Promise<AuditLog> {
  const log = await openAuditLog(folder);
  clean.after(() => log.close().catch(() => undefined));
  return log;
}
const content = (number: number, more: Partial<AuditContent> = {}): AuditContent => ({
  operation: 'Kubeconfig',
  Status: 'Completed',
  reason: 'Read',
  message: '',
  lastExecuted: '2026-11-21T10:00:00.000Z',
  clusterType: 'kubeadm',
  currentVersion: 'v1.36.3',
  requestedBy: `user-${number}`,
  auditID: `audit-${number}`,
  operationID: '',
  ...more,
});
const linesOf = async (folder: string) => (await readFile(join(folder, 'audit.jsonl'), 'utf8')).split('\n').slice(0, -1);
/** Replaces the lines of a history that nobody has open. */
const rewrite = (folder: string, lines: readonly string[]) =>
  writeFile(join(folder, 'audit.jsonl'), lines.map((line) => `${line}\n`).join(''));

/** A history of `count` entries, closed. */
async function history(count: number): Promise<{ folder: string; lines: string[] }> {
  const folder = await place();
  const log = await opened(folder);
  await Promise.all(Array.from({ length: count }, (_, index) => log.append(content(index + 1))));
  await log.close();
  return { folder, lines: await linesOf(folder) };
}

test('entries are chained, durable in their order, and go on after a restart', async () => {
  const { folder, lines } = await history(20);
  expect(lines).toHaveLength(20);
  const log = await opened(folder);
  expect(log.problem()).toBeUndefined();
  expect(log.entries()).toBe(20);
  await log.append(content(21));
  const { operations } = await log.history();
  expect(verifyChain(operations)).toEqual({ ok: true });
  expect(operations.map(({ requestedBy }) => requestedBy)).toEqual(Array.from({ length: 21 }, (_, index) => `user-${index + 1}`));
  expect(operations[0]?.previous).toBe(FIRST_PREVIOUS);
  expect((await stat(join(folder, 'audit.jsonl'))).mode & 0o777).toBe(0o600);
});

test('of a history that is too long for one answer the newest entries are told, and how many there are before them', async () => {
  const { folder, lines } = await history(50);
  const sizes = lines.map((line) => Buffer.byteLength(line) + 1);
  const all = sizes.reduce((sum, size) => sum + size, 0);
  const last = sizes.slice(-10).reduce((sum, size) => sum + size, 0);
  for (const [mostBytes, omitted] of [
    [all, undefined],
    [all - 1, 1],
    [last, 40],
    [last + 1, 40],
    [last - 1, 41],
    [sizes[49] ?? 0, 49],
  ] as const) {
    const log = await openAuditLog(folder, undefined, mostBytes);
    const told = await log.history();
    await log.close();
    expect([mostBytes, told.omitted, told.operations.length]).toEqual([mostBytes, omitted, 50 - (omitted ?? 0)]);
    expect(told.operations.at(-1)?.sequence).toBe(50);
    if (omitted === undefined) expect(verifyChain(told.operations)).toEqual({ ok: true });
  }
  // One whose first entries were removed does not pass for such a one.
  await rewrite(folder, lines.slice(40));
  const cut = await opened(folder);
  expect(await cut.history()).not.toHaveProperty('omitted');
});

test('what has no operation id does not end the entry of an operation that has none yet', async () => {
  const folder = await place();
  const log = await opened(folder);
  await log.append(content(1, { operation: 'Upgrade', Status: 'In Progress', reason: 'Requested' }));
  // A kubeconfig is read before the operation begins.
  await log.append(content(2));
  expect(log.unfinished()?.auditID).toBe('audit-1');
  await log.close();
  const next = await opened(folder);
  expect(next.unfinished()?.auditID).toBe('audit-1');
  await next.append(content(1, { operation: 'Upgrade', Status: 'Completed', reason: 'UpgradeSucceeded', operationID: 'o-1' }));
  expect(next.unfinished()).toBeUndefined();
});

test('R66: every call is one line with its Audit-ID, and the chain verifies', async () => {
  const count = longRun ? 10_000 : 2_000;
  const { folder, lines } = await history(count);
  expect(lines).toHaveLength(count);
  const entries = lines.map((line) => JSON.parse(line) as AuditEntry);
  expect(new Set(entries.map(({ auditID }) => auditID)).size).toBe(count);
  expect(verifyChain(entries)).toEqual({ ok: true });
  expect((await opened(folder)).problem()).toBeUndefined();
});

test('R66: edits, cuts and reorders are found, 100 of 100, by the agent and, but for a cut end, by whoever has the entries', async () => {
  const { folder, lines } = await history(40);
  const head = await readFile(join(folder, 'audit.head'));
  let found = 0;
  for (let at = 0; at < 100; at++) {
    const index = (at * 7) % lines.length;
    const kind = (['edit', 'cut', 'reorder', 'insert', 'end', 'forge'] as const)[at % 6] ?? 'edit';
    const changed = tampered(lines, kind, index, at);
    expect(changed, `${kind} at ${index}`).not.toEqual(lines);
    const verdict = verifyChain(changed.map(parsed));
    await rewrite(folder, changed);
    await writeFile(join(folder, 'audit.head'), head);
    await rm(join(folder, 'audit.known-breaks.json'), { force: true });
    const log = await opened(folder);
    expect(log.problem(), `${kind} at ${index}`).toMatch(/^the audit history is not what was written/);
    // The agent's next entry makes a cut end visible to everybody, for ever.
    const { operations } = await log.history();
    expect(verifyChain(operations).ok, `${kind} at ${index}`).toBe(false);
    expect(operations.at(-1)).toMatchObject({ operation: 'Audit', reason: 'ChainBroken' });
    // A whole forged rest is a chain by itself: only the agent knows that it did not write it.
    if (kind !== 'end' && kind !== 'forge') expect(verdict.ok, `${kind} at ${index}`).toBe(false);
    await log.close();
    found++;
  }
  expect(found).toBe(100);
});

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function tampered(
  lines: readonly string[],
  kind: 'edit' | 'cut' | 'reorder' | 'insert' | 'end' | 'forge',
  index: number,
  at: number,
): string[] {
  const copy = [...lines];
  const line = lines[index] ?? '';
  if (kind === 'edit') {
    const entry = JSON.parse(line) as AuditEntry & { more?: string };
    const edits: (() => unknown)[] = [
      () => ({ ...entry, requestedBy: 'nobody' }),
      () => ({ ...entry, Status: 'Failed' }),
      () => ({ ...entry, more: 'x' }),
      () => ({ ...entry, sequence: entry.sequence + 1 }),
      () => ({ ...entry, previous: 'f'.repeat(64) }),
    ];
    copy[index] = at % 7 === 0 ? line.slice(0, -5) : JSON.stringify(edits[at % edits.length]?.());
  } else if (kind === 'cut') copy.splice(index === lines.length - 1 ? 0 : index, 1 + (at % 3));
  else if (kind === 'reorder') {
    const other = index === 0 ? 1 : index - 1;
    [copy[index], copy[other]] = [copy[other] ?? '', line];
  } else if (kind === 'insert') copy.splice(index, 0, line);
  else if (kind === 'end') copy.length = lines.length - 1 - (at % 5);
  else {
    // Everything from one entry on written anew, with hashes that fit.
    let after = index === 0 ? { sequence: 0, hash: FIRST_PREVIOUS } : (JSON.parse(lines[index - 1] ?? '') as AuditEntry);
    for (let next = index; next < lines.length; next++) {
      after = chainEntry(content(next + 1, { requestedBy: 'somebody-else' }), after);
      copy[next] = JSON.stringify(after);
    }
  }
  return copy;
}

test('a break is noted once, and the history goes on behind it', async () => {
  const { folder, lines } = await history(6);
  await rewrite(
    folder,
    lines.map((line, index) => (index === 2 ? line.replace('user-3', 'user-9') : line)),
  );
  for (let start = 0; start < 3; start++) {
    const log = await opened(folder);
    expect(log.problem()).toContain('entry 3');
    await log.append(content(100 + start));
    await log.close();
  }
  const entries = (await linesOf(folder)).map((line) => JSON.parse(line) as AuditEntry);
  expect(entries.filter(({ reason }) => reason === 'ChainBroken')).toHaveLength(1);
  expect(entries).toHaveLength(10);
  expect(verifyChain(entries)).toMatchObject({ ok: false, sequence: 3 });
});

test('the file that knows the end being gone is a break too', async () => {
  const { folder } = await history(5);
  await unlink(join(folder, 'audit.head'));
  expect((await opened(folder)).problem()).toContain('missing or was edited');
});

test('an entry torn at any byte is taken off and noted; the one whose place the head does not know yet is taken', async () => {
  const { folder, lines } = await history(3);
  const path = join(folder, 'audit.jsonl');
  const torn = JSON.stringify(chainEntry(content(4), JSON.parse(lines[2] ?? '') as AuditEntry));
  const head = await readFile(join(folder, 'audit.head'));
  for (let cut = 1; cut <= torn.length; cut++) {
    await rewrite(folder, lines);
    await appendFile(path, torn.slice(0, cut));
    await writeFile(join(folder, 'audit.head'), head);
    const log = await openAuditLog(folder);
    expect(log.problem()).toBeUndefined();
    const { operations } = await log.history();
    await log.close();
    expect(operations).toHaveLength(4);
    expect(operations[3]).toMatchObject({ sequence: 4, operation: 'Audit', reason: 'TornEnd' });
    expect(verifyChain(operations)).toEqual({ ok: true });
  }
  await rewrite(folder, [...lines, torn]);
  await writeFile(join(folder, 'audit.head'), head);
  const log = await opened(folder);
  expect(log.problem()).toBeUndefined();
  expect(log.entries()).toBe(4);
});

test('R66: on a full disk an entry is refused with a 503, leaves nothing behind, and comes through when there is room again', async (context) => {
  const folder = await place();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder], { stdio: 'pipe' });
  } catch {
    context.skip('a small file system cannot be mounted here: it needs root');
  }
  clean.after(() => execFileSync('umount', ['-l', folder]));
  const log = await opened(folder);
  await log.append(content(1));
  const ballast = join(folder, 'ballast');
  const file = await open(ballast, 'w');
  await expect(
    (async () => {
      for (;;) await file.write(Buffer.alloc(512));
    })(),
  ).rejects.toMatchObject({ code: 'ENOSPC' });
  await file.close();
  let written = 1;
  await expect(
    (async () => {
      // What is left of the last page may take some.
      for (;;) {
        await log.append(content(++written));
      }
    })(),
  ).rejects.toMatchObject({ status: { code: 503, reason: 'ServiceUnavailable' } });
  const refused = written;
  for (let again = 0; again < 5; again++) await expect(log.append(content(refused))).rejects.toMatchObject({ status: { code: 503 } });
  expect(log.problem()).toContain('cannot be written');
  expect(await linesOf(folder)).toHaveLength(refused - 1);
  await truncate(ballast, 0);
  await log.append(content(refused));
  expect(log.problem()).toBeUndefined();
  const { operations } = await log.history();
  expect(operations).toHaveLength(refused);
  expect(verifyChain(operations)).toEqual({ ok: true });
});

test('which operation has no end yet, and which has one, is known after a restart', async () => {
  const folder = await place();
  const log = await opened(folder);
  await log.append(content(1, { operation: 'Install', Status: 'In Progress', auditID: 'a' }));
  await log.append(content(2, { operation: 'Install', auditID: 'a', operationID: 'op-1' }));
  await log.append(content(3, { operation: 'Upgrade', Status: 'In Progress', auditID: 'b' }));
  await log.close();
  const again = await opened(folder);
  expect(again.ended('op-1')).toBe(true);
  expect(again.ended('op-2')).toBe(false);
  expect(again.unfinished()).toMatchObject({ operation: 'Upgrade', auditID: 'b' });
});

test('texts without end are cut, so that every reader can take the entry', async () => {
  const log = await opened(await place());
  const entry = await log.append(content(1, { message: 'x'.repeat(1_000_000), requestedBy: '\ud800' }));
  expect(entry.message.length).toBeLessThan(3_000);
  expect(verifyChain((await log.history()).operations)).toEqual({ ok: true });
});
