import { expect, test } from 'vitest';
import { getFromKube, parseKubeconfig } from '../../../../../src/agent/lifecycle/distributions/common/kube-access.ts';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import { waitServedCertificate } from '../../../../../src/agent/lifecycle/distributions/kubeadm/served-certificate.ts';
import { issueCertificate } from '../../../../../src/hub/certificates/x509.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { SPEC } from './facts.ts';
import { machineFolder } from './machine-folder.ts';
import { smallApiServer, wellCluster } from './small-api-server.ts';

const clean = cleanUp();
const signal = () => AbortSignal.timeout(20_000);

async function cluster() {
  const box = await machineFolder(clean);
  const api = await smallApiServer(clean);
  for (const [path, object] of wellCluster()) api.objects.set(path, object);
  await box.write('etc/kubernetes/admin.conf', api.kubeconfig, 0o600);
  return { box, api };
}

test('a machine without a cluster', async () => {
  const box = await machineFolder(clean);
  expect(await kubeadm.observe(box.machine, SPEC, signal())).toMatchObject({ installed: false, nodeReady: false });
});

test('a cluster that is well; the connection is kept', async () => {
  const { box, api } = await cluster();
  for (let look = 0; look < 3; look++) {
    expect(await kubeadm.observe(box.machine, SPEC, signal())).toEqual({
      installed: true,
      version: 'v1.36.3',
      kubeletVersion: 'v1.36.3',
      nodeReady: true,
      controlPlaneReady: true,
      cniReady: true,
      unschedulable: false,
      message: '',
    });
  }
  expect(api.connections()).toBe(1);
  expect(await box.calls()).toEqual([]);
});

test('what is not well is said in words', async () => {
  const { box, api } = await cluster();
  const why = 'container runtime network not ready: cni plugin not initialized';
  const conditions = [{ type: 'Ready', status: 'False', message: why }];
  api.objects.set('/api/v1/nodes', {
    items: [{ spec: { unschedulable: true }, status: { nodeInfo: { kubeletVersion: 'v1.36.4' }, conditions } }],
  });
  api.objects.set('/api/v1/namespaces/kube-system/pods', {
    items: [
      {
        metadata: { labels: { component: 'etcd' } },
        status: { phase: 'Running', containerStatuses: [{ state: { waiting: { reason: 'CrashLoopBackOff' } } }] },
      },
    ],
  });
  const seen = await kubeadm.observe(box.machine, SPEC, signal());
  expect(seen).toMatchObject({
    installed: true,
    kubeletVersion: 'v1.36.4',
    nodeReady: false,
    controlPlaneReady: false,
    cniReady: false,
    unschedulable: true,
  });
  expect(seen.message).toBe(
    `${why}; etcd is CrashLoopBackOff; kube-apiserver is not there; kube-controller-manager is not there; kube-scheduler is not there`,
  );
});

test('an API server that does not answer is no error', async () => {
  const { box, api } = await cluster();
  await box.write('etc/kubernetes/admin.conf', api.kubeconfig.replace(/127\.0\.0\.1:\d+/, '127.0.0.1:1'));
  expect(await kubeadm.observe(box.machine, SPEC, signal())).toMatchObject({
    installed: true,
    controlPlaneReady: false,
    message: expect.stringContaining('does not answer'),
  });
});

test('a server of another authority is not believed', async () => {
  const { box, api } = await cluster();
  const other = await smallApiServer(clean);
  const port = /127\.0\.0\.1:\d+/;
  await box.write('etc/kubernetes/admin.conf', api.kubeconfig.replace(port, port.exec(other.kubeconfig)?.[0] ?? ''));
  await expect(getFromKube(box.machine, '/etc/kubernetes/admin.conf', '/version', signal())).rejects.toThrow(
    /certificate|self-signed|verify/i,
  );
});

test('a damaged kubeconfig is an error that shows nothing of it', () => {
  const damaged = 'clusters: [{cluster: {server: "https://x"}}]\nusers: [{user: {client-key-data: c2VjcmV0}}]\n';
  expect(() => parseKubeconfig(damaged)).toThrow(/^the kubeconfig holds no server with embedded certificates$/);
});

test('certificates are read from the files themselves', async () => {
  const { box, api } = await cluster();
  await box.write('etc/kubernetes/pki/apiserver.crt', api.serverCertificate);
  const soon = issueCertificate({
    commonName: 'x',
    ca: true,
    notBefore: new Date(Date.now() - 86_400_000),
    notAfter: new Date(Date.now() - 1_000),
  });
  await box.write('etc/kubernetes/pki/etcd/server.crt', soon.cert);
  const found = await kubeadm.certificates(box.machine);
  expect(found.map(({ name, remainingDaysToExpire }) => [name, remainingDaysToExpire])).toEqual([
    ['admin.conf', '0'],
    ['apiserver', '0'],
    ['etcd-server', '-1'],
  ]);
  expect(Date.parse(found[0]?.expiryDate ?? '')).toBeGreaterThan(Date.now());
});

test('the new certificate counts when the API server shows it, not when it stands in its file', async () => {
  const { box, api } = await cluster();
  if (waitServedCertificate.kind !== 'wait') throw new Error('not a wait');
  await box.write('etc/kubernetes/pki/apiserver.crt', (await smallApiServer(clean)).serverCertificate);
  await expect(waitServedCertificate.until(box.machine, signal())).rejects.toThrow('it still shows another one');
  await box.write('etc/kubernetes/pki/apiserver.crt', api.serverCertificate);
  expect(await waitServedCertificate.until(box.machine, signal())).toBe(true);
});
