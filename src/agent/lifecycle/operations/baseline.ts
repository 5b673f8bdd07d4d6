import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MachineView } from '../machine/machine.ts';
import { checkedLine, checkedValue } from './checked-line.ts';
import type { Disk } from './disk.ts';
import type { Image, InstalledStep, OperationState } from './records.ts';
import type { WrittenFile } from './request.ts';

/** What the machine was before the cluster, as far as operations have touched it. */
export type Baseline = {
  /** Oldest first. At most one says what stood at a path. */
  images: Image[];
  /** Steps of Install that took effect, oldest first. */
  installed: InstalledStep[];
  written: WrittenFile[];
  /** Operations whose images are in here. */
  operations: string[];
};

const empty = (): Baseline => ({ images: [], installed: [], written: [], operations: [] });

/** Throws an Error that names the file when it is damaged. */
export async function readBaseline(folder: string): Promise<Baseline> {
  const path = join(folder, 'index');
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return empty();
  const value = checkedValue(text.trimEnd());
  if (value === undefined) throw new Error(`${path} is damaged: what the machine was before the cluster cannot be known from it`);
  return value as Baseline;
}

/**
 * Takes into the baseline what an operation that has ended leaves on the machine: images of `steps`, first ones only; steps of Install; written files. The copies stay where they
 * are. May be repeated, also after it was cut.
 */
export async function mergeBaseline(disk: Disk, folder: string, state: OperationState, steps: readonly InstalledStep[]): Promise<void> {
  const baseline = await readBaseline(folder);
  if (baseline.operations.includes(state.id)) return;
  const names = new Set(steps.map(({ name }) => name));
  for (const image of state.images.filter(({ step }) => names.has(step))) {
    const first = firstImage(baseline.images, image);
    if (first) baseline.images.push(first);
  }
  if (state.request.type === 'Install') {
    const old = baseline.installed.filter(({ name }) => !names.has(name));
    baseline.installed = [...old, ...steps];
  }
  const written = new Map(baseline.written.map((file) => [file.path, file]));
  for (const [path, file] of state.written) {
    if (file) written.set(path, file);
    else written.delete(path);
  }
  baseline.written = [...written.values()];
  baseline.operations.push(state.id);
  await disk.replace(join(folder, 'index'), checkedLine(baseline));
}

/**
 * The state of an operation that was undone but for `steps`, with those files only that these have written and that still stand as they were written: the others were put back, and are
 * not what an operation wrote.
 */
export async function onlyStanding(
  machine: MachineView,
  state: OperationState,
  steps: readonly Pick<InstalledStep, 'name'>[],
): Promise<OperationState> {
  const written: OperationState['written'] = new Map();
  for (const [path, file] of state.written) {
    if (!state.images.some((image) => image.path === path && steps.some(({ name }) => name === image.step))) continue;
    // What cannot be read is not watched either; an operation does not wait with its end for that.
    if (await stands(machine, path, file).catch(() => false)) written.set(path, file);
  }
  return { ...state, written };
}

/** Whether a file is as it was written; `undefined` stands for one that was removed. */
async function stands(machine: MachineView, path: string, file: WrittenFile | undefined): Promise<boolean> {
  const found = await machine.stat(path);
  if (!file || !found) return file === undefined && found === undefined;
  return found.type === 'file' && (found.mode & 0o7777) === file.mode && (await machine.digest(path)) === file.digest;
}

/** Files and folders of operations that Delete will want. */
export function neededBy(baseline: Baseline): string[] {
  return [...baseline.images.flatMap(({ file }) => (file === '' ? [] : [file])), ...baseline.installed.map(({ folder }) => folder)];
}

/** Undefined when the images know already what stood there before the cluster. */
function firstImage(images: readonly Image[], image: Image): Image | undefined {
  const below = (path: string) => image.path === path || image.path.startsWith(`${path}/`);
  if (images.some((first) => first.kind !== 'folder-absent' && first.kind !== 'kept' && below(first.path))) return undefined;
  if (images.some((first) => first.kind === image.kind && first.path === image.path)) return undefined;
  // Where a folder was missing, nothing stood below it.
  const wasMissing = images.some((first) => first.kind === 'folder-absent' && below(first.path));
  return wasMissing && image.kind === 'copy' ? { ...image, kind: 'absent', file: '' } : { ...image };
}
