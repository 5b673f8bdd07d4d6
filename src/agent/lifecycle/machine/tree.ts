import type { Stats } from 'node:fs';
import {
  chmod,
  constants,
  copyFile,
  type FileHandle,
  lchown,
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  rm,
  symlink,
  utimes,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { mountsFrom } from './mounts.ts';

/**
 * Copies a file, a link or a tree with modes, owners and times, through to the disk. A folder is merged into one that is there. What is mounted below stays out, as do sockets,
 * pipes and devices. No error when there is nothing at `from`.
 */
export async function copyTree(from: string, to: string): Promise<void> {
  const info = await present(from);
  if (!info) return;
  await makeFolders(dirname(to));
  await copyEntry(from, to, info, info.dev);
  await sync(dirname(to));
}

async function copyEntry(from: string, to: string, info: Stats, device: number): Promise<void> {
  if (info.isSymbolicLink()) {
    await rm(to, { force: true });
    await symlink(await readlink(from), to);
    await lchown(to, info.uid, info.gid);
  } else if (info.isFile()) {
    await rm(to, { force: true });
    await copyFile(from, to, constants.COPYFILE_FICLONE);
    await like(to, info);
    await sync(to);
  } else if (info.isDirectory()) {
    await mkdir(to, { mode: 0o700 }).catch(exists);
    if (info.dev === device) {
      for (const name of await readdir(from)) {
        const below = await present(join(from, name));
        if (below) await copyEntry(join(from, name), join(to, name), below, device);
      }
    }
    await like(to, info);
    await sync(to);
  }
}

/** Bytes of all files of a tree, counted until `limit` is passed. */
export async function treeSize(path: string, limit: number): Promise<number> {
  const info = await present(path);
  if (!info) return 0;
  if (!info.isDirectory()) return info.isFile() ? info.size : 0;
  let sum = 0;
  for (const name of await readdir(path)) {
    const below = await present(join(path, name));
    if (below && below.dev === info.dev) sum += await treeSize(join(path, name), limit - sum);
    if (sum > limit) break;
  }
  return sum;
}

/** Removes a file or tree. A mount point is emptied; where something is mounted below, nothing is removed: that would empty what is mounted. */
export async function removeTree(path: string): Promise<void> {
  const mounts = await mountsFrom(path);
  const below = mounts.filter((mounted) => mounted !== path);
  if (below.length > 0) throw new Error(`${path} is not removed: ${below.slice(0, 3).join(', ')} is mounted below it`);
  if (mounts.length > 0) {
    for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true });
    return;
  }
  await rm(path, { recursive: true, force: true });
  await sync(dirname(path)).catch(absent);
}

/** Like `mkdir -p`; where that fails it says why: Node's own recursion calls a read-only file system ENOENT. */
export async function makeFolders(path: string, mode?: number): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await makeFolders(dirname(path), mode);
    await mkdir(path, mode);
  }
}

export async function present(path: string): Promise<Stats | undefined> {
  return lstat(path).catch(absent);
}

async function like(path: string, info: Stats): Promise<void> {
  await lchown(path, info.uid, info.gid);
  await chmod(path, info.mode & 0o7777);
  await utimes(path, info.atimeMs / 1000, info.mtimeMs / 1000);
}

export async function sync(path: string): Promise<void> {
  const handle: FileHandle = await open(path, 'r');
  await handle.sync().finally(() => handle.close());
}

export function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
  return undefined;
}

function exists(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'EEXIST') throw error;
  return undefined;
}
