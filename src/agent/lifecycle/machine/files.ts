import { createHash } from 'node:crypto';
import { open, readdir, readFile, rename, rm, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Machine } from './machine.ts';
import { piecesOf } from './pieces.ts';
import { absent, copyTree, makeFolders, present, removeTree, sync } from './tree.ts';

type Files = Pick<Machine, 'read' | 'stat' | 'list' | 'digest' | 'write' | 'remove' | 'copy' | 'rename'>;

/** Files of a machine below `root`. A path that begins with `root` already is taken as it is. */
export function machineFiles(root: string): Files {
  const at = placedBelow(root);
  return {
    read: (path) => readFile(at(path), 'utf8').catch(absent),
    async stat(path) {
      const info = await present(at(path));
      if (!info) return undefined;
      const type = info.isDirectory() ? 'directory' : info.isSymbolicLink() ? 'link' : 'file';
      return { type, mode: info.mode & 0o7777, size: info.size };
    },
    list: async (path) => ((await readdir(at(path)).catch(absent)) ?? []).sort(),
    async digest(path) {
      const hash = createHash('sha256');
      try {
        for await (const piece of piecesOf(at(path))) hash.update(piece);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR') return undefined;
        throw error;
      }
      return hash.digest('hex');
    },
    async write(path, content, mode) {
      const target = at(path);
      await makeFolders(dirname(target));
      const temporary = temporaryName(target);
      await rm(temporary, { force: true });
      try {
        const handle = await open(temporary, 'wx', 0o600);
        try {
          await handle.writeFile(content);
          // The umask has no say.
          await handle.chmod(mode);
          await handle.sync();
        } finally {
          await handle.close();
        }
        await rename(temporary, target);
      } catch (error) {
        await unlink(temporary).catch(() => undefined);
        throw error;
      }
      await sync(dirname(target));
    },
    remove: (path) => removeTree(at(path)),
    copy: (from, to) => copyTree(at(from), at(to)),
    async rename(from, to) {
      await makeFolders(dirname(at(to)));
      await rename(at(from), at(to));
      await sync(dirname(at(to)));
      await sync(dirname(at(from)));
    },
  };
}

/** What `write` fills before it takes the place of `path`. Always the same, so that what a power cut left is found; programs that read whole folders pass over such names. */
export function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.fairlead-new`);
}

export function placedBelow(root: string): (path: string) => string {
  const base = root.replace(/\/+$/, '');
  return (path) => (base === '' || path === base || path.startsWith(`${base}/`) ? path : `${base}${path}`);
}
