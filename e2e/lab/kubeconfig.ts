import { writeFileSync } from 'node:fs';
import { stringify } from 'yaml';

export type UserCredentials = { certificate: string; key: string } | { token: string };

export type KubeconfigOptions = {
  server: string;
  /** PEM. */
  ca: string;
  user: string;
  credentials: UserCredentials;
  namespace?: string;
};

const base64 = (pem: string) => Buffer.from(pem).toString('base64');

/** Writes a kubeconfig with one context, `fairlead-lab`, to `path` (mode 0600) and returns `path`. */
export function writeKubeconfig(path: string, { server, ca, user, credentials, namespace }: KubeconfigOptions): string {
  const auth =
    'token' in credentials
      ? { token: credentials.token }
      : { 'client-certificate-data': base64(credentials.certificate), 'client-key-data': base64(credentials.key) };
  const name = 'fairlead-lab';
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server, 'certificate-authority-data': base64(ca) } }],
    users: [{ name: user, user: auth }],
    contexts: [{ name, context: { cluster: name, user, ...(namespace === undefined ? {} : { namespace }) } }],
    'current-context': name,
  };
  writeFileSync(path, stringify(config), { mode: 0o600 });
  return path;
}
