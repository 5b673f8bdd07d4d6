import { readFile } from 'node:fs/promises';
import type { TestContext } from 'vitest';
import { type AuditLog, type AuditLogOptions, auditLog } from '../../../src/hub/audit/audit-log.ts';
import { type AuditEntry, auditEntry } from '../../../src/hub/audit/entry.ts';

/** An entry of a request to node `n<number>`. `pad` characters make it longer. */
export function entry(number: number, pad = 0): AuditEntry {
  const at = new Date();
  return auditEntry(
    {
      method: 'GET',
      url: `/apis/infraops.michael.io/v1/nodes/n${number}`,
      headers: { 'user-agent': `kubectl/v1.36.3 ${'x'.repeat(pad)}` },
      peer: '192.0.2.1',
    },
    { auditID: `id-${number}`, user: { name: 'ann', uid: '', groups: ['operators', 'system:authenticated'], extra: {} } },
    { code: 200, received: at, ended: at },
  );
}

/** A log that is closed when the test ends, with what it told. */
export function logOf(
  destination: string,
  { onTestFinished }: Pick<TestContext, 'onTestFinished'>,
  options: Partial<AuditLogOptions> = {},
): AuditLog & { told: string[] } {
  const told: string[] = [];
  const log = auditLog({ destination, retryMs: 20, settleMs: 20, ...options, onError: (text) => told.push(text) });
  onTestFinished(() => log.close());
  return { ...log, told };
}

export type Line = {
  kind: string;
  seq: number;
  note?: string;
  mismatch?: string;
  lost?: number;
  problem?: string;
  keptIn?: string;
} & Partial<Omit<AuditEntry, 'kind'>>;

export async function linesOf(path: string): Promise<Line[]> {
  const text = await readFile(path, 'utf8');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

/** Numbers of the entries in the file, in its order. */
export const numbersIn = (lines: readonly Line[]) =>
  lines.filter((line) => line.kind === 'Event').map((line) => Number(line.auditID?.slice('id-'.length)));

export const notesIn = (lines: readonly Line[]) => lines.filter((line) => line.kind === 'ChainNote').map((line) => line.note);

export const upTo = (count: number, from = 0) => Array.from({ length: count - from }, (_, index) => from + index);
