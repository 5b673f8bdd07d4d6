import { once } from 'node:events';
import type { Writable } from 'node:stream';

/** Writes lines as they come, no faster than the other side reads, and ends. Resolves early when the signal is aborted. */
export async function writeLines(out: Writable, lines: AsyncIterable<string>, signal: AbortSignal): Promise<void> {
  for await (const line of lines) {
    if (signal.aborted) return;
    if (!out.write(`${line}\n`)) await once(out, 'drain', { signal }).catch(() => undefined);
    if (signal.aborted) return;
  }
  out.end();
}
