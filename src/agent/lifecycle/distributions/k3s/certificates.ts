import { X509Certificate } from 'node:crypto';
import type { CertificateInfo } from '../../../../kube/lifecycle.ts';
import type { MachineView } from '../../machine/machine.ts';
import { AGENT, TLS } from './paths.ts';

const DAY_MS = 86_400_000;

/** Files with the certificates that `k3s certificate rotate` renews, by name; without CAs. */
async function files(machine: MachineView): Promise<{ name: string; path: string }[]> {
  const found: { name: string; path: string }[] = [];
  for (const [folder, prefix] of [
    [TLS, ''],
    [`${TLS}/etcd`, 'etcd/'],
    [`${TLS}/kube-controller-manager`, 'kube-controller-manager/'],
    [`${TLS}/kube-scheduler`, 'kube-scheduler/'],
    [AGENT, 'agent/'],
  ] as const) {
    if ((await machine.stat(folder))?.type !== 'directory') continue;
    for (const file of await machine.list(folder)) {
      if (file.endsWith('.crt') && !file.endsWith('-ca.crt') && !file.endsWith('.nochain.crt')) {
        found.push({ name: prefix + file.slice(0, -'.crt'.length), path: `${folder}/${file}` });
      }
    }
  }
  return found;
}

/** The certificates of the cluster, read from their PEM files; one that cannot be read is left out, as k3s would make it anew. */
export async function k3sCertificates(machine: MachineView, now = Date.now()): Promise<CertificateInfo[]> {
  const found: CertificateInfo[] = [];
  for (const { name, path } of await files(machine)) {
    const pem = await machine.read(path);
    const certificate = pem === undefined ? undefined : parsed(pem);
    // A CA with another name, or one that came with its chain.
    if (!certificate || certificate.ca) continue;
    const days = Math.floor((certificate.validToDate.getTime() - now) / DAY_MS);
    found.push({ name, remainingDaysToExpire: String(days), expiryDate: certificate.validToDate.toISOString() });
  }
  return found;
}

/** SHA-256 of each certificate, by name: what a rotation must change. */
export async function fingerprints(machine: MachineView): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const { name, path } of await files(machine)) {
    const certificate = parsed((await machine.read(path)) ?? '');
    if (certificate && !certificate.ca) found.set(name, certificate.fingerprint256);
  }
  return found;
}

function parsed(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}
