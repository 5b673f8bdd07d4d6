import { readFileSync } from 'node:fs';
import { EXIT, ExitError, UsageError } from './exit.ts';
import type { Access } from './kubeconfig.ts';

/** How a cluster that joins reaches and verifies this one. */
export type JoinParent = {
  url: string;
  /** PEM; undefined: what the machine there trusts. */
  ca: string | undefined;
  /** Name that the certificate must have, when it is not the host of `url`. */
  serverName: string | undefined;
  /** What the person should know. */
  notes: string[];
};

/** The address and CA of this cluster as the kubeconfig has them, or at `asked`. Throws UsageError or ExitError when they cannot be handed on. */
export function joinParent(cluster: Access['cluster'], asked: string | undefined): JoinParent {
  const text = asked ?? cluster.server;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:' || !/^https:\/\/[\w.:[\]/%~-]+$/i.test(text)) {
    if (asked !== undefined) throw new UsageError('--parent-url must be https://HOST[:PORT]');
    throw new ExitError(
      EXIT.error,
      `clusters join over https only, and the kubeconfig has ${url?.protocol ?? ''}//${url?.host ?? ''}: use --parent-url`,
    );
  }
  if (cluster['insecure-skip-tls-verify']) {
    throw new ExitError(
      EXIT.error,
      "this kubeconfig does not verify the server's certificate, so there is no CA to hand on: use one that does, or --certificate-authority FILE",
    );
  }
  const notes: string[] = [];
  if (/^(localhost|\[::1\]|127(\.\d+){3})$/.test(url.hostname)) {
    notes.push(`${url.origin} is this machine only: give the address at which other clusters reach this one with --parent-url`);
  }
  if (cluster['proxy-url'] && asked === undefined)
    notes.push('this kubeconfig goes through a proxy: the agent needs HTTPS_PROXY if it has to as well');
  return {
    url: text.replace(/\/+$/, ''),
    ca: certificates(cluster),
    serverName: asked === undefined ? cluster['tls-server-name'] : undefined,
    notes,
  };
}

/** Only certificates leave this machine, whatever else is in the file. */
function certificates(cluster: Access['cluster']): string | undefined {
  const data = cluster['certificate-authority-data'];
  const file = cluster['certificate-authority'];
  if (!data && !file) return undefined;
  const text = data ? Buffer.from(data, 'base64').toString('utf8') : readFileSync(file ?? '', 'utf8');
  const found = text.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g);
  if (!found) throw new ExitError(EXIT.error, 'the certificate authority of the kubeconfig holds no certificate');
  return `${found.map((pem) => pem.replaceAll('\r', '')).join('\n')}\n`;
}
