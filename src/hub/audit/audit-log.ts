import { type ChainNote, noteJson, type Position, seal } from './chain.ts';
import type { AuditEntry } from './entry.ts';
import { fileSink } from './file-sink.ts';
import type { Sink } from './sink.ts';
import { descriptorSink } from './stdout-sink.ts';

export type AuditLogOptions = {
  /** `-`: standard output, else the path of a file. */
  destination: string;
  /** Makes the chain an HMAC-SHA-256 chain; see readAuditKey. */
  key?: Buffer;
  /** Each new trouble once, and how it ended, as one line of text for the log. Must not throw. */
  onError: (text: string) => void;
  /** Characters of entries that wait at most; what comes beyond is counted and lost. Default 16 Mi. */
  maxQueued?: number;
  /** Milliseconds until a failed write is tried again. Default 500. */
  retryMs?: number;
  /** Milliseconds from a line to its fdatasync and the head file. Default 200. */
  settleMs?: number;
  /** Milliseconds after which a write that does not end counts as trouble. Default 10,000. */
  stallMs?: number;
};

export type AuditLog = {
  /** Takes an entry; it goes out in the background at once, many together when there are many. Never throws. */
  write(entry: AuditEntry): void;
  /** Why entries cannot be written now; undefined when they can. As long as it says something, nothing that changes anything may be done. */
  problem(): string | undefined;
  /** Entries lost since the start. */
  lost(): number;
  /** Resolves when all that was written before is out and durable. Rejects with an Error when that does not work now (the entries stay queued). */
  flush(): Promise<void>;
  /** Opens the file again, after log rotation moved it away. Happens by itself with the next line too. */
  reopen(): Promise<void>;
  /** Flushes, at most `stallMs`, and ends. Entries that come later are counted as lost. onError hears of lost entries. */
  close(): Promise<void>;
};

/** How long lines may gather before they are written. */
const GATHER_MS = 5;
const MAX_BATCH = 1_048_576;

type Outage = { since: Date; problem: string };
type Waiter = { resolve: () => void; reject: (error: Error) => void };

/** Rejects when `promise` does not settle within `ms`. */
async function within(ms: number, promise: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${ms} ms`)), ms);
  });
  await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const text = (error: unknown) => (error instanceof Error ? error.message : String(error));

/**
 * The audit log: one JSON line per entry, in a hash chain (chain.ts) that goes on after restarts and rotation. Opens the destination at once;
 * `flush()` tells whether that worked. What cannot be written waits in a bounded queue and is tried again until it can; then a line in the
 * chain says how long that took and how many entries were lost.
 */
export function auditLog(options: AuditLogOptions): AuditLog {
  const { destination, key, onError, maxQueued = 16_777_216, retryMs = 500, settleMs = 200, stallMs = 10_000 } = options;
  const sink: Sink = destination === '-' ? descriptorSink(1) : fileSink(destination, key);
  const name = destination === '-' ? 'standard output' : destination;

  let position: Position | undefined;
  /** JSON texts of objects. */
  const queue: string[] = [];
  let queued = 0;
  /** Sealed lines that are not out yet: retried as they are, for their place in the chain is taken. */
  let sealed: { bytes: Buffer; last: Position; count: number } | undefined;
  /** When the first line came out that is not known to be durable (milliseconds of performance.now()). */
  let unsettledSince: number | undefined;
  let outage: Outage | undefined;
  let lost = 0;
  /** Of the outages that are over. */
  let lostBefore = 0;
  let waiters: Waiter[] = [];
  let rotate = false;
  let busySince: number | undefined;
  let running = false;
  let ended = false;
  let timer: NodeJS.Timeout | undefined;
  let gathering: NodeJS.Timeout | undefined;

  const note = (one: ChainNote) => noteJson(one, new Date());

  async function step<T>(action: Promise<T>): Promise<T> {
    busySince = performance.now();
    try {
      return await action;
    } finally {
      busySince = undefined;
    }
  }

  function sealBatch(from: Position): NonNullable<typeof sealed> {
    let last = from;
    let count = 0;
    let length = 0;
    const lines: string[] = [];
    for (const json of queue) {
      const next = seal(json, last, key);
      lines.push(next.line);
      last = next.position;
      length += next.line.length;
      count++;
      if (length >= MAX_BATCH) break;
    }
    for (const json of queue.splice(0, count)) queued -= json.length;
    return { bytes: Buffer.from(lines.join('')), last, count };
  }

  async function makeDurable(): Promise<void> {
    if (unsettledSince === undefined || !position) return;
    await step(sink.settle(position));
    unsettledSince = undefined;
  }

  async function drain(): Promise<void> {
    if (rotate) {
      rotate = false;
      await step(sink.release());
    }
    const found = await step(sink.ready(position));
    position = found.position;
    for (const one of found.notes) {
      if (!['start', 'rotated'].includes(one.note) && !(one.note === 'resumed' && !one.mismatch)) {
        onError(`audit log ${name}: ${JSON.stringify(one)}`);
      }
    }
    const notes = found.notes.map(note);
    queue.unshift(...notes);
    for (const json of notes) queued += json.length;
    if (sealed || queue.length > 0) {
      sealed ??= sealBatch(position);
      // The line is out or retried as it is, so what comes next follows it either way.
      position = sealed.last;
      await step(sink.append(sealed.bytes));
      sealed = undefined;
      unsettledSince ??= performance.now();
    }
    // Under load the queue may never be empty.
    if (unsettledSince !== undefined && performance.now() - unsettledSince >= settleMs) await makeDurable();
  }

  /** Only when nothing is queued: whoever waits then, waits for what is out. */
  async function settle(): Promise<void> {
    const told = waiters;
    waiters = [];
    try {
      await makeDurable();
    } catch (error) {
      waiters = [...told, ...waiters];
      throw error;
    }
    for (const { resolve } of told) resolve();
  }

  function recovered(): void {
    const since = outage?.since ?? new Date();
    const problem = outage?.problem ?? 'the queue was full';
    onError(`audit log ${name}: works again; ${lost} entries were lost since ${since.toISOString()}`);
    const json = note({ note: 'outage', since: since.toISOString(), until: new Date().toISOString(), problem, lost });
    queue.push(json);
    queued += json.length;
    outage = undefined;
    lostBefore += lost;
    lost = 0;
  }

  async function failed(error: unknown): Promise<void> {
    if (ended) return;
    const problem = text(error);
    if (outage?.problem !== problem) onError(`audit log ${name}: ${problem}; entries wait, calls that change anything must be refused`);
    outage = { since: outage?.since ?? new Date(), problem };
    const told = waiters;
    waiters = [];
    for (const { reject } of told) reject(new Error(`audit log ${name}: ${problem}`));
    await sink.release();
  }

  async function run(): Promise<void> {
    do {
      do await drain();
      while (queue.length > 0 || rotate);
      // Trouble is over only when all that waited is durable; the line about it comes after that.
      if (outage || lost > 0) {
        await settle();
        recovered();
      }
    } while (queue.length > 0 || rotate);
    if (waiters.length > 0) await settle();
  }

  function kick(): void {
    if (running || ended) return;
    running = true;
    let wait = settleMs;
    run()
      .catch(async (error: unknown) => {
        wait = retryMs;
        await failed(error);
      })
      .finally(() => {
        running = false;
        if (outage || unsettledSince !== undefined) later(wait);
        // Who asked while this run was failing gets an answer of its own, not that of a timer.
        if (waiters.length > 0 || (!outage && rotate)) kick();
        else if (!outage && queue.length > 0) soon();
      })
      .catch((error: unknown) => onError(`audit log ${name}: ${text(error)}`));
  }

  /** For lines that nobody waits for: a few milliseconds of them are written together, which costs a fraction of writing each. */
  function soon(): void {
    if (running || ended || gathering) return;
    gathering = setTimeout(() => {
      gathering = undefined;
      kick();
    }, GATHER_MS);
  }

  function later(ms: number): void {
    if (ended || timer) return;
    timer = setTimeout(() => {
      timer = undefined;
      if (!outage) waiters.push({ resolve: () => undefined, reject: () => undefined });
      kick();
    }, ms);
    timer.unref();
  }

  function flush(): Promise<void> {
    if (ended) return Promise.reject(new Error(`audit log ${name} is closed`));
    return new Promise((resolve, reject) => {
      waiters.push({ resolve, reject });
      kick();
    });
  }

  kick();
  return {
    write(entry) {
      const json = JSON.stringify(entry);
      if (ended || queued + json.length > maxQueued) {
        if (lost++ === 0) onError(`audit log ${name}: ${ended ? 'closed' : 'the queue is full'}; entries are lost from now on`);
        return;
      }
      queue.push(json);
      queued += json.length;
      if (!outage) soon();
    },
    problem() {
      if (ended) return 'the audit log is closed';
      if (outage) return outage.problem;
      if (busySince !== undefined && performance.now() - busySince > stallMs) return `a write does not end since ${stallMs} ms`;
      return lost > 0 ? 'the queue of entries is full' : undefined;
    },
    lost: () => lostBefore + lost,
    flush,
    async reopen() {
      rotate = true;
      await flush();
    },
    async close() {
      if (ended) return;
      await within(stallMs, flush()).catch((error: unknown) => {
        lost += queue.length + (sealed?.count ?? 0);
        onError(`audit log ${name}: ${lost} lines were lost at the end: ${text(error)}`);
      });
      ended = true;
      clearTimeout(timer);
      clearTimeout(gathering);
      await within(stallMs, sink.release()).catch(() => undefined);
    },
  };
}
