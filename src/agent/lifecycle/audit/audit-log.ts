import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type AuditContent, chainEntry } from '../../../kube/audit-chain.ts';
import type { AuditEntry, AuditHistory } from '../../../kube/lifecycle.ts';
import { serviceUnavailable } from '../../../kube/status.ts';
import { readIfThere, syncFolder, writeDurably } from '../state/durable.ts';
import { auditLines, type ChainBreak, type Position, parseLine, readAuditFile } from './audit-file.ts';
import { openHead } from './head.ts';

/** The audit history of this machine. */
export type AuditLog = {
  /** Durable when it resolves. Rejects with a 503: then there is no such entry, and what it stands for must not be done. */
  append(content: AuditContent): Promise<AuditEntry>;
  /** Everything that can be read, as it stands in the file: whoever asks verifies it. Of a very long history the newest entries, and how many older ones there are. */
  history(): Promise<AuditHistory>;
  /** What is wrong with the history, in words; undefined when nothing is. */
  problem(): string | undefined;
  /** The last entry `In Progress` that no later one ends. */
  unfinished(): AuditEntry | undefined;
  /** Whether an operation has an entry that ends it. */
  ended(operationID: string): boolean;
  entries(): number;
  close(): Promise<void>;
};

const MAX_TEXT = 2_048;
/** Of the file in one answer: about 30,000 entries, and less than the hub takes. */
const MOST_BYTES = 15 * 1024 * 1024;
/** An operation's end is repeated soon after it or never. */
const REMEMBERED = 100;
/** Operation of the entries that tell of the history itself. */
const OWN = 'Audit';

/**
 * Opens the history in `folder`: `audit.jsonl`, one entry a line, and `audit.head`, where it ends. An end that was torn by a crash is taken off and noted; anything else that is wrong is left as it is,
 * noted once by an entry, and shown by `problem`. `mostBytes`: of the file in one answer. Rejects when the files cannot be opened.
 */
export async function openAuditLog(folder: string, now: () => Date = () => new Date(), mostBytes = MOST_BYTES): Promise<AuditLog> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, 'audit.jsonl');
  const knownPath = join(folder, 'audit.known-breaks.json');
  const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND, 0o600);
  const head = await openHead(join(folder, 'audit.head'));
  await syncFolder(folder);

  let unfinished: AuditEntry | undefined;
  const ended = new Set<string>();
  function note(entry: AuditEntry): void {
    if (entry.Status === 'In Progress') unfinished = entry;
    else {
      // An entry of what is no operation, or was not begun, has no id of one: that alone makes nothing the same.
      const same = (name: 'auditID' | 'operationID') => entry[name] !== '' && entry[name] === unfinished?.[name];
      if (same('auditID') || same('operationID')) unfinished = undefined;
      if (entry.operationID !== '') ended.add(entry.operationID);
      for (const oldest of ended) {
        if (ended.size <= REMEMBERED) break;
        ended.delete(oldest);
      }
    }
  }

  const before = await readAuditFile(path, (await file.stat()).size, note);
  const endBreak = breakAtEnd(before.last, head);
  const breaks = [...before.breaks, ...(endBreak ? [endBreak] : [])];
  let bytes = before.wholeBytes;
  /** True: what a failed write may have left must go before the next one. */
  let dirty = before.tornBytes > 0;
  /** Going on behind what the head knows keeps an end that was cut, forged or added visible to everybody, for ever. */
  let last: Position = (endBreak && head.found) ?? before.last;
  let outage: string | undefined;

  async function write(content: AuditContent): Promise<AuditEntry> {
    const entry = chainEntry(shortened(content), last);
    const line = Buffer.from(`${JSON.stringify(entry)}\n`);
    try {
      if (dirty) await file.truncate(bytes);
      dirty = true;
      const { bytesWritten } = await file.write(line);
      if (bytesWritten !== line.length) throw Object.assign(new Error('only a part was written'), { code: 'ENOSPC' });
      await file.datasync();
      await head.write({ sequence: entry.sequence, hash: entry.hash });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      outage = `the audit history cannot be written: ${why}`;
      await file
        .truncate(bytes)
        .then(() => file.datasync())
        .then(
          () => {
            dirty = false;
          },
          () => undefined,
        );
      throw serviceUnavailable(`${outage}; nothing was begun. Free space in ${folder}, or make it writable, and ask again`);
    }
    dirty = false;
    outage = undefined;
    bytes += line.length;
    last = { sequence: entry.sequence, hash: entry.hash };
    note(entry);
    return entry;
  }

  let queue: Promise<unknown> = Promise.resolve();
  function append(content: AuditContent): Promise<AuditEntry> {
    const written = queue.then(() => write(content));
    queue = written.catch(() => undefined);
    return written;
  }

  async function tell(reason: string, message: string): Promise<void> {
    const common = { clusterType: '', currentVersion: '', requestedBy: 'fairlead-agent', auditID: '', operationID: '' };
    await append({ operation: OWN, Status: 'Completed', reason, message, lastExecuted: now().toISOString(), ...common });
  }

  const known = new Set(knownBreaks(await readIfThere(knownPath)));
  const fresh = breaks.filter((one) => !known.has(keyOf(one)));
  // A disk that is full now is told by the first change that wants to be recorded; reading goes on.
  try {
    if (before.tornBytes > 0) await tell('TornEnd', `${before.tornBytes} bytes of an entry that a crash cut short were taken off`);
    if (fresh.length > 0) {
      const [first] = fresh;
      await tell('ChainBroken', `at entry ${first?.sequence} (line ${first?.line}): ${first?.why}; breaks found now: ${fresh.length}`);
      await writeDurably(knownPath, `${JSON.stringify([...known, ...fresh.map(keyOf)])}\n`);
    }
  } catch {
    // `problem` says it.
  }

  return {
    append,
    async history() {
      await queue;
      const operations: AuditEntry[] = [];
      const tooLong = bytes > mostBytes;
      // From the byte before on: what comes first is then a line that does not fit, its rest, or its end alone.
      let skip = tooLong;
      for await (const { text } of auditLines(path, tooLong ? bytes - mostBytes - 1 : 0)) {
        const value = skip ? undefined : parseLine(text);
        skip = false;
        // What is no object is a gap for whoever verifies; nothing else is left out.
        if (typeof value === 'object' && value !== null) operations.push(value as AuditEntry);
      }
      const omitted = tooLong ? (operations[0]?.sequence ?? 1) - 1 : 0;
      return { operations, ...(omitted > 0 && { omitted }) };
    },
    problem: () =>
      outage ??
      (breaks[0] && `the audit history is not what was written: at entry ${breaks[0].sequence}, line ${breaks[0].line}: ${breaks[0].why}`),
    unfinished: () => unfinished,
    ended: (operationID) => ended.has(operationID),
    entries: () => last.sequence,
    async close() {
      await queue;
      await Promise.all([file.close(), head.close()]);
    },
  };
}

/** What the head says of the end of the file. One entry more than it knows is what a crash between the two leaves. */
function breakAtEnd(last: Position, { found, existed }: { found: Position | undefined; existed: boolean }): ChainBreak | undefined {
  const broken = (why: string): ChainBreak => ({ line: 0, sequence: last.sequence + 1, why });
  if (!found) {
    const fresh = last.sequence === 0 || (last.sequence === 1 && !existed);
    return fresh ? undefined : broken('the file that knows where the history ends is missing or was edited');
  }
  if (found.sequence > last.sequence) return broken(`the end was cut: the history reached entry ${found.sequence}`);
  if (found.sequence < last.sequence - 1) return broken(`entries behind number ${found.sequence} were not written by this agent`);
  return found.sequence === last.sequence && found.hash !== last.hash ? broken(`entry ${last.sequence} was replaced`) : undefined;
}

const keyOf = ({ sequence, why }: ChainBreak) => `${sequence} ${why}`;

function knownBreaks(text: string | undefined): string[] {
  const value = text === undefined ? [] : parseLine(text);
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}

/** An entry stays of a size that every reader takes. */
function shortened(content: AuditContent): AuditContent {
  const cut = (text: string) => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text).toWellFormed();
  const { operation, Status, reason, message, lastExecuted, clusterType, currentVersion, requestedBy, auditID, operationID } = content;
  const long = { operation, reason, message, lastExecuted, clusterType, currentVersion, requestedBy, auditID, operationID };
  const short = Object.fromEntries(Object.entries(long).map(([name, text]) => [name, cut(text)])) as typeof long;
  return { ...short, Status };
}
