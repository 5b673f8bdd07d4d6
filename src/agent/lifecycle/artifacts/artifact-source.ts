import { isAbsolute } from 'node:path';
import { directorySource } from './directory.ts';
import { OFFICIAL_URL, officialSource } from './official.ts';
import type { ArtifactSource } from './source.ts';
import { urlSource } from './url.ts';

export type ArtifactOptions = {
  /** Base of the official downloads, used when there is no source. */
  downloadURL?: string;
  /** PEM of a CA that is trusted besides those of the system. */
  ca?: string;
};

/** `source`: a folder (absolute path), an https URL, or empty for the official downloads. Throws an Error that says what it must be. */
export function artifactSource(source: string, options: ArtifactOptions = {}): ArtifactSource {
  const trust = options.ca === undefined ? {} : { ca: options.ca };
  if (source === '') return officialSource(options.downloadURL ?? OFFICIAL_URL, trust);
  if (isAbsolute(source)) return directorySource(source);
  if (source.startsWith('https://') && URL.canParse(source)) return urlSource(source, trust);
  throw new Error('a source of artifacts is the absolute path of a folder, or an https:// URL');
}
