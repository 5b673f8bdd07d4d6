import { EventEmitter, once } from 'node:events';
import { appendFile, open, stat } from 'node:fs/promises';

const LARGEST = 8 * 1024 * 1024;
const PIECE = 64 * 1024;

/** Lines of operations, one file each. What cannot be written is lost, and told once: the operation goes on. */
export type OperationLog = {
  /** The file that lines go to from now on. */
  open(path: string): Promise<void>;
  say(line: string): void;
  /** Resolves when what was said has been written. */
  flushed(): Promise<void>;
  /** Lines of `paths`, and, with follow, what comes, in whatever file, until `signal`. */
  read(paths: readonly string[], follow: boolean, signal: AbortSignal): AsyncIterable<string>;
};

export function operationLog(onError: (error: unknown) => void): OperationLog {
  const changes = new EventEmitter().setMaxListeners(0);
  let path: string | undefined;
  let size = 0;
  let waiting = '';
  let writing: Promise<void> | undefined;
  let told = false;

  async function write(): Promise<void> {
    while (waiting !== '' && path !== undefined) {
      const text = waiting;
      waiting = '';
      try {
        await appendFile(path, text, { mode: 0o600 });
      } catch (error) {
        if (!told) onError(error);
        told = true;
      }
      changes.emit('change');
    }
    writing = undefined;
  }

  return {
    async open(next) {
      await writing;
      path = next;
      told = false;
      size = (await stat(next).catch(() => undefined))?.size ?? 0;
      changes.emit('change');
    },
    say(line) {
      if (size > LARGEST) return;
      size += line.length + 1;
      waiting += size > LARGEST ? `${line}\n... the rest is left out\n` : `${line}\n`;
      writing ??= write();
    },
    flushed: async () => writing,
    async *read(paths, follow, signal) {
      let file: string | undefined;
      let position = 0;
      const more = async function* (from: string) {
        let open = '';
        for await (const piece of pieces(from, position)) {
          position += piece.length;
          const lines = (open + piece.toString('latin1')).split('\n');
          open = lines.pop() ?? '';
          for (const line of lines) yield Buffer.from(line, 'latin1').toString('utf8');
        }
        position -= open.length; // Half a line is read again when it is whole.
      };
      for (const one of paths) {
        [file, position] = [one, 0];
        yield* more(one);
      }
      while (follow && !signal.aborted) {
        const changed = once(changes, 'change', { signal }).catch(() => undefined);
        const now = path;
        if (file !== undefined) yield* more(file);
        if (now !== file && now !== undefined) {
          [file, position] = [now, 0];
          yield* more(now);
        }
        await changed;
      }
    },
  };
}

async function* pieces(path: string, start: number): AsyncGenerator<Buffer> {
  const handle = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
  if (!handle) return;
  try {
    for (let at = start; ; ) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(PIECE), 0, PIECE, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}
