import { readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { piecesOf } from '../machine/pieces.ts';
import { StepError } from '../operations/step.ts';
import type { ArtifactSource } from './source.ts';
import { INDEX, readSums, sumOf } from './sums.ts';
import { writeVerified } from './verified-file.ts';

/** Artifacts in a folder of this machine. A link that leads out of it is refused. */
export function directorySource(folder: string): ArtifactSource {
  let index: Promise<Map<string, string>> | undefined;
  const sums = () => {
    index ??= readFile(join(folder, INDEX), 'utf8').then(
      (text) => readSums(text, folder),
      (error: NodeJS.ErrnoException) => {
        index = undefined;
        throw new StepError(`artifacts: ${join(folder, INDEX)} cannot be read: ${error.message}`);
      },
    );
    return index;
  };
  return {
    refresh() {
      index = undefined;
    },
    list: async (prefix) => [...(await sums()).keys()].filter((path) => path.startsWith(prefix)).sort(),
    async fetch(relative, to, mode, signal) {
      const sum = sumOf(await sums(), relative, folder);
      const base = await realpath(folder);
      const path = await realpath(join(base, relative)).catch(() => {
        throw new StepError(`artifact ${relative} stands in ${INDEX} of ${folder} but is not there`);
      });
      if (!path.startsWith(`${base}/`)) throw new StepError(`artifact ${relative} of ${folder} is a link that leads out of it`);
      return await writeVerified(piecesOf(path, signal), { to, mode, sum, name: relative });
    },
  };
}
