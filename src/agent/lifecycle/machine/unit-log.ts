import { copyFile, type FileHandle, mkdir, open, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';

/** What units say where there is no journal: one file each, and the one before it. */
export type UnitLogs = {
  /** To be given to the unit as stdout and stderr. */
  open(name: string): Promise<FileHandle>;
  /** The last lines; empty when there is no log. */
  last(name: string, lines: number): Promise<string>;
  /** Moves what a log has to NAME.log.1 when it is too large. */
  trim(name: string): Promise<void>;
};

const LAST_BYTES = 256 * 1024;

/** `largest` in bytes. */
export function unitLogs(folder: string, largest: number): UnitLogs {
  const pathOf = (name: string) => join(folder, `${name}.log`);
  const sizeOf = async (name: string) => (await stat(pathOf(name)).catch(() => undefined))?.size;

  /** The unit writes on into the file that it has, always at its end: so the file is emptied, not replaced. */
  async function trim(name: string): Promise<void> {
    if (((await sizeOf(name)) ?? 0) <= largest) return;
    await copyFile(pathOf(name), `${pathOf(name)}.1`);
    await truncate(pathOf(name));
  }

  return {
    trim,
    async open(name) {
      await mkdir(folder, { recursive: true });
      await trim(name);
      return open(pathOf(name), 'a', 0o600);
    },
    async last(name, lines) {
      const size = await sizeOf(name);
      if (size === undefined) return '';
      const handle = await open(pathOf(name), 'r');
      try {
        const { buffer, bytesRead } = await handle.read({
          buffer: Buffer.alloc(Math.min(size, LAST_BYTES)),
          position: Math.max(0, size - LAST_BYTES),
        });
        return buffer.toString('utf8', 0, bytesRead).trimEnd().split('\n').slice(-lines).join('\n');
      } finally {
        await handle.close();
      }
    },
  };
}
