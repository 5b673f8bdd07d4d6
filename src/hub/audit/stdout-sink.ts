import { randomUUID } from 'node:crypto';
import { write as writeFd } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { BEFORE_FIRST } from './chain.ts';
import type { Sink } from './sink.ts';

const write = promisify(writeFd);
const EAGAIN_PAUSE_MS = 20;
const EAGAIN_TRIES = 250;

/**
 * A file descriptor (1: standard output) as the destination. Each process begins a chain of its own, for nobody can be asked how the last one ended.
 * Written in Node's thread pool, because process.stdout blocks the event loop when a pipe is full.
 */
export function descriptorSink(fd: number): Sink {
  // How much of the bytes that were refused last is out already: a pipe cannot take anything back.
  let out = 0;
  return {
    ready: (known) =>
      Promise.resolve(known ? { position: known, notes: [] } : { position: BEFORE_FIRST, notes: [{ note: 'start', chain: randomUUID() }] }),
    append: async (lines) => {
      let full = 0;
      while (out < lines.length) {
        try {
          const { bytesWritten } = await write(fd, lines, out, lines.length - out, null);
          out += bytesWritten;
          full = 0;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || ++full > EAGAIN_TRIES) throw error;
          await sleep(EAGAIN_PAUSE_MS);
        }
      }
      out = 0;
    },
    settle: () => Promise.resolve(),
    release: () => Promise.resolve(),
  };
}
