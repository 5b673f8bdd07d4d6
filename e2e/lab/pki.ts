import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Authority, createAuthority, issueCertificate } from './certificates.ts';

/** Certificates and keys of a lab; each exists in memory and as a file (mode 0600). */
export type Pki = {
  /** Signs the API server's certificate and the client certificates of users. */
  clusterCA: Authority;
  /** Signs only the aggregator's client certificate (`--requestheader-client-ca-file`). */
  frontProxyCA: Authority;
  files: Record<PkiFile, string>;
};

export type PkiFile =
  | 'ca.crt'
  | 'ca.key'
  | 'front-proxy-ca.crt'
  | 'front-proxy-ca.key'
  | 'front-proxy-client.crt'
  | 'front-proxy-client.key'
  | 'apiserver.crt'
  | 'apiserver.key'
  | 'sa.key'
  | 'sa.pub';

/** Makes everything a control plane needs in the new folder `dir`. `addresses` are further names of kube-apiserver. */
export function createPki(dir: string, addresses: readonly string[] = []): Pki {
  mkdirSync(dir, { mode: 0o700 });
  const clusterCA = createAuthority('fairlead-lab-ca');
  const frontProxyCA = createAuthority('fairlead-lab-front-proxy-ca');
  const frontProxyClient = issueCertificate(frontProxyCA, { commonName: 'front-proxy-client', usages: ['clientAuth'] });
  const apiserver = issueCertificate(clusterCA, {
    commonName: 'kube-apiserver',
    usages: ['serverAuth'],
    altNames: ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc', '127.0.0.1', '10.96.0.1', ...addresses],
  });
  const serviceAccount = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const contents: Record<PkiFile, string> = {
    'ca.crt': clusterCA.certificate,
    'ca.key': clusterCA.key,
    'front-proxy-ca.crt': frontProxyCA.certificate,
    'front-proxy-ca.key': frontProxyCA.key,
    'front-proxy-client.crt': frontProxyClient.certificate,
    'front-proxy-client.key': frontProxyClient.key,
    'apiserver.crt': apiserver.certificate,
    'apiserver.key': apiserver.key,
    'sa.key': serviceAccount.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    'sa.pub': serviceAccount.publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
  const files = Object.fromEntries(
    Object.entries(contents).map(([name, content]) => {
      const path = join(dir, name);
      writeFileSync(path, content, { mode: 0o600 });
      return [name, path];
    }),
  ) as Record<PkiFile, string>;
  return { clusterCA, frontProxyCA, files };
}
