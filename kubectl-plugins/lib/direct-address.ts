import type { InfraCluster } from '../../src/hub/clusters/schema.ts';
import type { DirectAddress } from './child-entries.ts';
import { EXIT, ExitError, UsageError } from './exit.ts';

/** Value of --direct when it stands alone. */
export const FROM_HUB = 'from the hub';

/** The hub's own address, by --direct=URL or by what the hub says. Throws UsageError or ExitError. */
export function directAddress(asked: string, status: InfraCluster['status'] | undefined, name: string): DirectAddress {
  const { directURL, directCA } = status ?? {};
  if (asked === FROM_HUB && !directURL) {
    throw new ExitError(
      EXIT.error,
      `the hub offers no direct address for cluster "${name}" (status.directURL is empty): start the hub with one, give --direct=URL, or leave --direct out`,
    );
  }
  const url = checked(asked === FROM_HUB ? (directURL ?? '') : asked);
  if (!url) {
    if (asked !== FROM_HUB) throw new UsageError(`--direct=${asked}: must be https://HOST[:PORT]`);
    throw new ExitError(EXIT.error, `status.directURL of cluster "${name}" is not https://HOST[:PORT]`);
  }
  if (directCA && !Buffer.from(directCA, 'base64').toString('utf8').includes('-----BEGIN CERTIFICATE-----')) {
    throw new ExitError(EXIT.error, `status.directCA of cluster "${name}" holds no certificate`);
  }
  return { url, ca: directCA || undefined };
}

/** The address without a slash at the end; undefined when credentials must not go there. */
function checked(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:' || url.username || url.password || url.search || url.hash) return undefined;
  return text.replace(/\/+$/, '');
}
