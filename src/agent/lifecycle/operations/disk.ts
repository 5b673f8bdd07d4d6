import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { makeFolders } from '../machine/tree.ts';

/** How operations write what they must find again after a power cut. Each call has reached the disk when it resolves. */
export type Disk = {
  /** Writes at `position` and cuts the file off behind it: what an earlier call left half done is gone. */
  writeAt(path: string, position: number, content: string): Promise<void>;
  /** Replaces the file, or none of it, readable by its owner only. Makes the folder. */
  replace(path: string, content: string | Uint8Array): Promise<void>;
  /** A file or tree; no error when there is none. */
  remove(path: string): Promise<void>;
};

export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  await folder.sync().finally(() => folder.close());
}

export const localDisk: Disk = {
  async writeAt(path, position, content) {
    const handle = await open(path, 'r+');
    try {
      await handle.truncate(position);
      const bytes = Buffer.from(content);
      for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
      await handle.datasync();
    } finally {
      await handle.close();
    }
  },
  async replace(path, content) {
    await makeFolders(dirname(path), 0o700);
    const temporary = `${path}.new`;
    try {
      const handle = await open(temporary, 'w', 0o600);
      try {
        await handle.writeFile(content);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
    await syncFolder(dirname(path));
  },
  async remove(path) {
    await rm(path, { recursive: true, force: true });
    await syncFolder(dirname(path)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  },
};
