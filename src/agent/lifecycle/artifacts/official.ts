import { arch } from 'node:os';
import { StepError } from '../operations/step.ts';
import { type DownloadOptions, download, downloadText } from './download.ts';
import type { ArtifactSource } from './source.ts';
import { refuseEscape } from './sums.ts';
import { writeVerified } from './verified-file.ts';

export const OFFICIAL_URL = 'https://dl.k8s.io/release';

/**
 * Binaries of Kubernetes from where the project publishes them, each with its `.sha256`. It has `kubernetes/vX/bin/NAME` only, and lists nothing: images are pulled by the
 * container runtime then.
 */
export function officialSource(base: string, options: DownloadOptions): ArtifactSource {
  return {
    refresh: () => undefined,
    list: async () => [],
    async fetch(relative, to, mode, signal) {
      const [, version, name] = /^kubernetes\/(v\d+\.\d+\.\d+[\w.-]*)\/bin\/([\w-]+)$/.exec(refuseEscape(relative)) ?? [];
      if (version === undefined || name === undefined) {
        throw new StepError(`artifact ${relative} is not among the official downloads: name a source of artifacts that has it`);
      }
      const url = new URL(`${base.replace(/\/+$/, '')}/${version}/bin/linux/${arch() === 'x64' ? 'amd64' : 'arm64'}/${name}`);
      const sumURL = new URL(`${url.href}.sha256`);
      const sum = (await downloadText(sumURL, options, signal)).trim().split(/\s+/)[0]?.toLowerCase() ?? '';
      if (!/^[0-9a-f]{64}$/.test(sum)) throw new StepError(`${sumURL.origin}${sumURL.pathname} holds no SHA-256`);
      return await writeVerified(await download(url, options, signal), { to, mode, sum, name: relative });
    },
  };
}
