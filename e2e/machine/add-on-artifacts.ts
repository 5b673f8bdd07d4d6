import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { linkOrCopy } from '../../hack/images/cached.ts';
import { addOnsFolder, artifactsFolder } from '../lab/artifacts.ts';
import { createLabFolder } from '../lab/folders.ts';

type Sum = { sum: string; path: string };

const readSums = (folder: string): Sum[] =>
  readFileSync(join(folder, 'SHA256SUMS'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => ({ sum: line.slice(0, 64), path: line.slice(66) }));

export type AddOnArtifacts = {
  /** Artifacts of one version. */
  folder: string;
  /** Flannel's, as text. */
  manifest: string;
  /** Archives that are not among the artifacts. */
  others: readonly string[];
  remove(): void;
};

/** The artifacts of `version` with those images of the add-ons beside Kubernetes' own whose archives are not named by `except`. */
export async function addOnArtifacts(version: string, except: RegExp): Promise<AddOnArtifacts> {
  const [base, addOns] = [await artifactsFolder(), await addOnsFolder()];
  const place = createLabFolder();
  try {
    const folder = join(place.path, 'artifacts');
    const sums: string[] = [];
    const add = (source: string, { sum, path }: Sum) => {
      linkOrCopy(source, join(folder, path));
      sums.push(`${sum}  ${path}\n`);
    };
    for (const entry of readSums(base)) {
      if (!entry.path.startsWith('kubernetes/') || entry.path.startsWith(`kubernetes/${version}/`)) add(join(base, entry.path), entry);
    }
    const others: string[] = [];
    for (const { sum, path } of readSums(addOns).filter((entry) => entry.path.startsWith('images/'))) {
      if (except.test(path)) others.push(join(addOns, path));
      else add(join(addOns, path), { sum, path: `kubernetes/${version}/images/${basename(path)}` });
    }
    writeFileSync(join(folder, 'SHA256SUMS'), sums.join(''));
    return { folder, manifest: readFileSync(join(addOns, 'kube-flannel.yml'), 'utf8'), others, remove: place.remove };
  } catch (error) {
    place.remove();
    throw error;
  }
}
