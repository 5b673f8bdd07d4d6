import { basename, dirname, join } from 'node:path';
import { temporaryName } from '../machine/files.ts';
import type { Machine, MachineView } from '../machine/machine.ts';
import type { Image } from './records.ts';
import { type Action, StepError } from './step.ts';

/** The most that is copied of one claimed path. */
export const LARGEST_CLAIM = 512 * 1024 * 1024;
const MOST_FILES = 100_000;

/** Paths that an action changes by itself or lets commands change. */
export function touchedBy(action: Action): readonly string[] {
  if (action.kind === 'claim') return action.paths;
  return action.kind === 'write' || action.kind === 'fetch' || action.kind === 'remove' ? [action.path] : [];
}

/**
 * Saves what stands at `paths`, for `step`, if that was not done before, `keep` being called for each image once it is on disk. All sizes are looked at first. Folders that are
 * missing on the way to a path are noted too.
 */
export async function saveImages(given: {
  machine: Machine;
  step: string;
  paths: readonly string[];
  have: readonly Image[];
  /** Where the copy number `n` goes. */
  place: (n: number) => string;
  keep: (image: Image) => Promise<void>;
}): Promise<void> {
  const { machine, step, have, place, keep } = given;
  const known = new Set(have.filter((image) => image.step === step).map(({ path }) => path));
  const paths = [...new Set(given.paths)].filter((path) => !known.has(path));
  for (const path of paths) await refuseLarge(machine, path);
  for (const path of paths) {
    for (const folder of await missingFolders(machine, path)) {
      if (known.has(folder)) continue;
      known.add(folder);
      await keep({ step, path: folder, kind: 'folder-absent', file: '' });
    }
    // A folder noted above may be claimed too: its claim says more.
    if (!(await machine.stat(path))) await keep({ step, path, kind: 'absent', file: '' });
    else {
      const file = place(have.length);
      await machine.remove(file);
      await machine.copy(path, file);
      const copied = (await machine.stat(file)) !== undefined;
      await keep({ step, path, kind: copied ? 'copy' : 'kept', file: copied ? file : '' });
    }
  }
}

/** Puts back what stood there. May be repeated, also after it was cut. */
export async function restoreImage(machine: Machine, image: Image): Promise<void> {
  const { path, kind, file } = image;
  if (kind === 'kept') return;
  if (kind === 'folder-absent') {
    if ((await machine.stat(path))?.type === 'directory' && (await machine.list(path)).length === 0) await machine.remove(path);
    return;
  }
  await machine.remove(temporaryName(path));
  if (kind === 'absent') return machine.remove(path);
  const saved = await machine.stat(file);
  if (!saved) throw new Error(`the copy ${file} of ${path} is gone`);
  const temporary = join(dirname(path), `.${basename(path)}.fairlead-old`);
  await machine.remove(temporary);
  await machine.copy(file, temporary).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOSPC') throw error;
    // There is no room for both.
    await machine.remove(temporary);
    await machine.remove(path);
    await machine.copy(file, temporary);
  });
  const stands = await machine.stat(path);
  if (stands && (stands.type === 'directory' || saved.type === 'directory')) await machine.remove(path);
  if ((await machine.stat(path))?.type === 'directory') {
    // Something is mounted there: emptied, but it stays.
    await machine.copy(temporary, path);
    await machine.remove(temporary);
  } else await machine.rename(temporary, path);
}

/** From the outermost inwards. */
async function missingFolders(machine: MachineView, path: string): Promise<string[]> {
  const missing: string[] = [];
  for (let folder = dirname(path); folder !== '/' && !(await machine.stat(folder)); folder = dirname(folder)) missing.unshift(folder);
  return missing;
}

async function refuseLarge(machine: MachineView, path: string): Promise<void> {
  let [bytes, files] = [0, 0];
  const count = async (at: string): Promise<void> => {
    const info = await machine.stat(at);
    if (!info) return;
    bytes += info.type === 'file' ? info.size : 0;
    if (bytes > LARGEST_CLAIM || ++files > MOST_FILES) {
      throw new StepError(
        `${path} is too large to be saved before it is changed: more than ${LARGEST_CLAIM >> 20} MiB or ${MOST_FILES} files`,
      );
    }
    if (info.type === 'directory') for (const name of await machine.list(at)) await count(join(at, name));
  };
  await count(path);
}
