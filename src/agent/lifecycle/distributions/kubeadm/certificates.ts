import { X509Certificate } from 'node:crypto';
import type { CertificateInfo } from '../../../../kube/lifecycle.ts';
import type { MachineView } from '../../machine/machine.ts';
import { parseKubeconfig } from '../common/kube-access.ts';
import { PKI } from './paths.ts';

const DAY_MS = 86_400_000;
/** Names as kubeadm calls them. */
const PEM_FILES: Readonly<Record<string, string>> = {
  apiserver: `${PKI}/apiserver.crt`,
  'apiserver-etcd-client': `${PKI}/apiserver-etcd-client.crt`,
  'apiserver-kubelet-client': `${PKI}/apiserver-kubelet-client.crt`,
  'etcd-healthcheck-client': `${PKI}/etcd/healthcheck-client.crt`,
  'etcd-peer': `${PKI}/etcd/peer.crt`,
  'etcd-server': `${PKI}/etcd/server.crt`,
  'front-proxy-client': `${PKI}/front-proxy-client.crt`,
  ca: `${PKI}/ca.crt`,
  'etcd-ca': `${PKI}/etcd/ca.crt`,
  'front-proxy-ca': `${PKI}/front-proxy-ca.crt`,
  'kubelet-client': '/var/lib/kubelet/pki/kubelet-client-current.pem',
};
const KUBECONFIGS = ['admin.conf', 'controller-manager.conf', 'scheduler.conf', 'super-admin.conf'] as const;
const AUTHORITIES: ReadonlySet<string> = new Set(['ca', 'etcd-ca', 'front-proxy-ca']);

/** Whether a certificate of that name is an authority: rotation leaves those as they are. */
export const isAuthority = (name: string) => AUTHORITIES.has(name);

function info(name: string, pem: string, now: number): CertificateInfo {
  const certificate = new X509Certificate(pem);
  const expiry = certificate.validToDate;
  return {
    name,
    remainingDaysToExpire: String(Math.floor((expiry.getTime() - now) / DAY_MS)),
    expiryDate: expiry.toISOString(),
    rotationDate: certificate.validFromDate.toISOString(),
  };
}

/** Every certificate of the control plane and its kubeconfigs, read from the files themselves. What is not there is left out; `rotationDate` is when it was made. */
export async function kubeadmCertificates(machine: MachineView, now = Date.now()): Promise<CertificateInfo[]> {
  const found: CertificateInfo[] = [];
  for (const [name, path] of Object.entries(PEM_FILES)) {
    const pem = await machine.read(path);
    if (pem) found.push(info(name, pem, now));
  }
  for (const name of KUBECONFIGS) {
    const text = await machine.read(`/etc/kubernetes/${name}`);
    if (text) found.push(info(name, parseKubeconfig(text).cert, now));
  }
  return found.sort((a, b) => a.name.localeCompare(b.name));
}
