import type { Writable } from 'node:stream';

/** Writes of one turn of the event loop, as one. */
export type Gathering = {
  /** As `Writable.write`: false when the source should pause until 'drain' of the sink. */
  write(chunk: Buffer): boolean;
  end(): void;
};

/** More is not kept back. */
const MOST = 64 * 1024;

/**
 * A large body comes in pieces of a TLS record or less. Each by itself costs a system call, a record and a frame at every hop; together they cost a
 * fraction. What has come when the event loop has looked at all sockets is written at once, so nothing waits for more. Not by cork(): Node's HTTP/1.1 answers lose
 * bytes when they are ended while corked.
 */
export function gather(sink: Writable): Gathering {
  let pieces: Buffer[] = [];
  let size = 0;
  let waiting: NodeJS.Immediate | undefined;

  const flush = (): boolean => {
    waiting = undefined;
    if (size === 0 || sink.destroyed) return true;
    const [first] = pieces;
    const whole = pieces.length === 1 && first ? first : Buffer.concat(pieces, size);
    pieces = [];
    size = 0;
    return sink.write(whole);
  };
  return {
    write(chunk) {
      pieces.push(chunk);
      size += chunk.length;
      if (size >= MOST) {
        clearImmediate(waiting);
        return flush();
      }
      waiting ??= setImmediate(flush);
      return !sink.writableNeedDrain;
    },
    end() {
      clearImmediate(waiting);
      flush();
      sink.end();
    },
  };
}
