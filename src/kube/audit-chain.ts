import { createHash } from 'node:crypto';
import type { AuditEntry } from './lifecycle.ts';

/** `previous` of the first entry of a chain. */
export const FIRST_PREVIOUS = '0'.repeat(64);

/** Fields of an entry in the order that its hash is made over. */
const FIELDS = [
  'sequence',
  'operation',
  'Status',
  'reason',
  'message',
  'lastExecuted',
  'clusterType',
  'currentVersion',
  'requestedBy',
  'auditID',
  'operationID',
  'previous',
] as const satisfies readonly (keyof AuditEntry)[];
const NAMES: ReadonlySet<string> = new Set([...FIELDS, 'hash']);

/** What an entry says, before it is put into the chain. */
export type AuditContent = Omit<AuditEntry, 'sequence' | 'previous' | 'hash'>;

function hashOf(entry: Omit<AuditEntry, 'hash'>): string {
  const ordered = Object.fromEntries(FIELDS.map((name) => [name, entry[name]]));
  return createHash('sha256').update(JSON.stringify(ordered)).digest('hex');
}

/** The entry that follows the one with `sequence` and `hash`; after none: sequence 0 and FIRST_PREVIOUS. */
export function chainEntry(content: AuditContent, after: { sequence: number; hash: string }): AuditEntry {
  const { operation, Status, reason, message, lastExecuted, clusterType, currentVersion, requestedBy, auditID, operationID } = content;
  const entry = {
    sequence: after.sequence + 1,
    ...{ operation, Status, reason, message, lastExecuted, clusterType, currentVersion, requestedBy, auditID, operationID },
    previous: after.hash,
  };
  return { ...entry, hash: hashOf(entry) };
}

/** Why a value is no entry whose hash fits what it says; undefined when it is one. That it follows the one before is for `followProblem`. */
export function entryProblem(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'this is no entry';
  const fields = value as Record<string, unknown>;
  const stranger = Object.keys(fields).find((name) => !NAMES.has(name));
  if (stranger !== undefined) return `the field ${JSON.stringify(stranger.slice(0, 64))} was added`;
  for (const name of [...FIELDS, 'hash'] as const) {
    if (typeof fields[name] !== (name === 'sequence' ? 'number' : 'string')) return `the field ${name} is missing or of a wrong type`;
  }
  const entry = fields as AuditEntry;
  return hashOf(entry) === entry.hash ? undefined : 'its hash does not fit what it says: it was edited';
}

/** Why an entry does not stand where it should; undefined when it does. */
export function followProblem(entry: AuditEntry, before: { sequence: number; hash: string }): string | undefined {
  const expected = before.sequence + 1;
  if (entry.sequence > expected) {
    const missing = entry.sequence === expected + 1 ? `entry ${expected} is` : `entries ${expected} to ${entry.sequence - 1} are`;
    return `${missing} missing before it`;
  }
  if (entry.sequence < expected) return `it stands behind entry ${before.sequence}: entries were moved or repeated`;
  return entry.previous === before.hash ? undefined : 'it does not follow the entry before it: one of the two was replaced';
}

export type ChainVerdict = { ok: true } | { ok: false; sequence: number; why: string };

/**
 * Whether the entries are a whole chain from the first one on, none edited, left out, moved or added. Otherwise `sequence` is the place, counted as the chain counts, of the first
 * that is wrong. A chain whose end was cut is still a chain: only the agent that wrote it can tell, and it says so in its next entry.
 */
export function verifyChain(entries: readonly unknown[]): ChainVerdict {
  let before = { sequence: 0, hash: FIRST_PREVIOUS };
  for (const value of entries) {
    const sequence = before.sequence + 1;
    const why = entryProblem(value) ?? followProblem(value as AuditEntry, before);
    if (why !== undefined) return { ok: false, sequence, why };
    before = value as AuditEntry;
  }
  return { ok: true };
}
