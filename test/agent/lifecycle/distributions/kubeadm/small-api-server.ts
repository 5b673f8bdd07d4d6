import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { stringify } from 'yaml';
import { issueCertificate } from '../../../../../src/hub/certificates/x509.ts';

/** An HTTPS server that lets in who has a certificate of its authority, as kube-apiserver does, and answers with objects by path, or with what functions make of them. */
export type SmallApiServer = {
  objects: Map<string, unknown>;
  /** Connections that it has taken. */
  connections(): number;
  /** A kubeconfig with embedded certificates, as kubeadm writes it. */
  kubeconfig: string;
  serverCertificate: string;
};

const DAY = 86_400_000;
const base64 = (text: string) => Buffer.from(text).toString('base64');

export async function smallApiServer(clean: { after(undo: () => unknown): void }): Promise<SmallApiServer> {
  const times = { notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + DAY) };
  const ca = issueCertificate({ commonName: 'kubernetes', ca: true, ...times });
  const serving = issueCertificate({ commonName: 'kube-apiserver', altNames: ['127.0.0.1'], usages: ['serverAuth'], issuer: ca, ...times });
  const admin = issueCertificate({ commonName: 'kubernetes-admin', usages: ['clientAuth'], issuer: ca, ...times });
  const objects = new Map<string, unknown>();
  let connections = 0;
  const server = createServer(
    { cert: serving.cert, key: serving.key, ca: ca.cert, requestCert: true, rejectUnauthorized: true },
    (request, answer) => {
      const path = new URL(request.url ?? '/', 'https://x').pathname;
      const found = objects.get(path);
      answer.writeHead(found === undefined ? 404 : 200, { 'content-type': 'application/json' });
      answer.end(
        JSON.stringify((typeof found === 'function' ? found() : found) ?? { kind: 'Status', code: 404, message: `${path} not found` }),
      );
    },
  );
  server.on('secureConnection', () => {
    connections++;
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  clean.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  const kubeconfig = stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority-data': base64(ca.cert) } }],
    users: [{ name: 'u', user: { 'client-certificate-data': base64(admin.cert), 'client-key-data': base64(admin.key) } }],
  });
  return { objects, connections: () => connections, kubeconfig, serverCertificate: serving.cert };
}

/** A cluster that is well. */
export function wellCluster(version = 'v1.36.3'): Map<string, unknown> {
  const pod = (component: string) => ({
    metadata: { labels: { component, tier: 'control-plane' } },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  });
  return new Map<string, unknown>([
    ['/version', { gitVersion: version }],
    [
      '/api/v1/nodes',
      { items: [{ spec: {}, status: { nodeInfo: { kubeletVersion: version }, conditions: [{ type: 'Ready', status: 'True' }] } }] },
    ],
    ['/api/v1/namespaces/kube-system/pods', { items: ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'].map(pod) }],
  ]);
}
