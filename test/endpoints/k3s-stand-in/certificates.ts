import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type IssueOptions, issueCertificate } from '../../../src/hub/certificates/x509.ts';
import { type Place, put } from './state.ts';

const TLS = '/var/lib/rancher/k3s/server/tls';
const AGENT = '/var/lib/rancher/k3s/agent';
const LEAVES = [`${TLS}/client-admin.crt`, `${TLS}/serving-kube-apiserver.crt`, `${AGENT}/client-kubelet.crt`];

/** Files of the certificates that a rotation makes anew. */
export const leaves = (place: Place): string[] => LEAVES.map((path) => place.at(path)).filter((path) => existsSync(path));

/** Certificate and key of a name below a folder, made unless they are there. */
function pair(place: Place, folder: string, name: string, make: () => IssueOptions) {
  const file = (end: string) => join(place.at(folder), `${name}.${end}`);
  if (!existsSync(file('crt'))) {
    const { cert, key } = issueCertificate(make());
    put(file('key'), key, 0o600);
    put(file('crt'), cert, 0o644);
  }
  return { cert: readFileSync(file('crt'), 'utf8'), key: readFileSync(file('key'), 'utf8') };
}

/** All certificates as k3s has them: CAs for ten years, others for a year or what the environment says. */
export function certificates(place: Place, names: readonly string[]) {
  const days = Number(process.env['CATTLE_NEW_SIGNED_CERT_EXPIRATION_DAYS'] ?? 365);
  const dates = (count: number) => ({ notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + count * 86_400_000) });
  const authority = (name: string) => pair(place, TLS, `${name}-ca`, () => ({ ...dates(3_650), commonName: `k3s-${name}-ca`, ca: true }));
  const [server, client] = [authority('server'), authority('client')];
  const admin = { commonName: 'system:admin', organizations: ['system:masters'], usages: ['clientAuth'] as const };
  return {
    server,
    client,
    serving: pair(place, TLS, 'serving-kube-apiserver', () => ({
      ...dates(days),
      commonName: 'kube-apiserver',
      altNames: ['127.0.0.1', 'localhost', ...names],
      usages: ['serverAuth'],
      issuer: server,
    })),
    admin: pair(place, TLS, 'client-admin', () => ({ ...dates(days), ...admin, issuer: client })),
    kubelet: pair(place, AGENT, 'client-kubelet', () => ({
      ...dates(days),
      commonName: 'system:node',
      usages: ['clientAuth'],
      issuer: client,
    })),
  };
}
