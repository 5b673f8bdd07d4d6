import { randomBytes } from 'node:crypto';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { OperationType } from '../../../kube/lifecycle.ts';
import { makeFolders } from '../machine/tree.ts';
import type { Disk } from './disk.ts';
import { createJournal, type Journal, openJournal } from './journal.ts';
import type { BeginRecord } from './records.ts';

const KEPT = 10;
/** Given up when the disk is full, so that the journal of undoing has room. */
const RESERVE = 256 * 1024;

/** The operations of a machine on disk: `operations/ID/{journal,log,before,files}` and `baseline` below one folder. */
export type OperationStore = {
  baseline: string;
  folderOf(id: string): string;
  /** What steps see as their folder. */
  filesOf(id: string): string;
  logOf(id: string): string;
  /** Those that have a journal, oldest first. */
  ids(): Promise<string[]>;
  newId(type: OperationType): Promise<string>;
  /** Writes the begin of an operation; nothing of it is left when that fails. */
  create(begin: BeginRecord): Promise<Journal>;
  open(id: string): Promise<Journal | undefined>;
  /** Gives the reserve up. */
  makeRoom(): Promise<void>;
  /** After an operation has ended: copies, files of earlier operations, and all but the last operations, go, unless something in them is `needed`. */
  prune(needed: readonly string[]): Promise<void>;
};

export function operationStore(stateDir: string, disk: Disk): OperationStore {
  const root = join(stateDir, 'lifecycle', 'operations');
  const reserve = join(stateDir, 'lifecycle', 'reserve');
  const folderOf = (id: string) => join(root, id);
  const journalOf = (id: string) => join(folderOf(id), 'journal');
  const folders = async () => {
    const names = await readdir(root).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    return names.filter((name) => /^\d{6}-/.test(name)).sort();
  };
  async function ids(): Promise<string[]> {
    const found = await Promise.all((await folders()).map(async (id) => ((await lstat(journalOf(id)).catch(() => undefined)) ? [id] : [])));
    return found.flat();
  }
  return {
    baseline: join(stateDir, 'lifecycle', 'baseline'),
    folderOf,
    filesOf: (id) => join(folderOf(id), 'files'),
    logOf: (id) => join(folderOf(id), 'log'),
    ids,
    async newId(type) {
      const last = (await folders()).at(-1) ?? '0';
      const number = String(Number.parseInt(last, 10) + 1).padStart(6, '0');
      return `${number}-${type.toLowerCase()}-${randomBytes(3).toString('hex')}`;
    },
    async create(begin) {
      try {
        await disk.replace(reserve, Buffer.alloc(RESERVE, 'reserve '));
        await makeFolders(join(folderOf(begin.id), 'files'), 0o700);
        return await createJournal(disk, journalOf(begin.id), begin);
      } catch (error) {
        await disk.remove(folderOf(begin.id)).catch(() => undefined);
        await disk.remove(reserve).catch(() => undefined);
        throw error;
      }
    },
    open: (id) => openJournal(disk, journalOf(id)),
    makeRoom: () => disk.remove(reserve),
    async prune(needed) {
      await disk.remove(reserve);
      const all = await folders();
      for (const [index, id] of all.entries()) {
        const wanted = needed.filter((path) => path.startsWith(`${folderOf(id)}/`));
        if (wanted.length === 0 && index < all.length - KEPT) {
          await disk.remove(folderOf(id));
          continue;
        }
        await pruneCopies(join(folderOf(id), 'before'), wanted);
        // A snapshot of etcd holds every secret of the cluster. The newest one may still be of use to a person, unless the cluster is gone.
        const latest = index === all.length - 1 && !id.includes('-delete-');
        const files = join(folderOf(id), 'files');
        if (!latest && !wanted.some((path) => path === files || path.startsWith(`${files}/`))) await disk.remove(files);
      }
    },
  };

  async function pruneCopies(folder: string, wanted: readonly string[]): Promise<void> {
    const copies = await readdir(folder).catch(() => []);
    for (const copy of copies) if (!wanted.includes(join(folder, copy))) await disk.remove(join(folder, copy));
  }
}
