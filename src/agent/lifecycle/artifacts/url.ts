import { type DownloadOptions, download, downloadText } from './download.ts';
import type { ArtifactSource } from './source.ts';
import { INDEX, readSums, sumOf } from './sums.ts';
import { writeVerified } from './verified-file.ts';

/** Artifacts below an https URL, which has neither user nor query, with the index SHA256SUMS at its root. */
export function urlSource(source: string, options: DownloadOptions): ArtifactSource {
  const base = new URL(source.endsWith('/') ? source : `${source}/`);
  const shown = `${base.origin}${base.pathname}`;
  const lifetime = new AbortController().signal;
  let index: Promise<Map<string, string>> | undefined;
  const sums = () => {
    index ??= downloadText(below(base, INDEX), options, lifetime).then((text) => readSums(text, shown));
    index.catch(() => {
      index = undefined;
    });
    return index;
  };
  return {
    refresh() {
      index = undefined;
    },
    list: async (prefix) => [...(await sums()).keys()].filter((path) => path.startsWith(prefix)).sort(),
    async fetch(relative, to, mode, signal) {
      const sum = sumOf(await sums(), relative, shown);
      return await writeVerified(await download(below(base, relative), options, signal), { to, mode, sum, name: relative });
    },
  };
}

const below = (base: URL, relative: string): URL => new URL(relative.split('/').map(encodeURIComponent).join('/'), base);
