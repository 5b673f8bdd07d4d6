import { request } from 'node:http';
import { join } from 'node:path';
import type { ApiClient } from './api-client.ts';
import type { Pki } from './pki.ts';
import { type LabProcess, readyOrEnded, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

/** Where the programs, the lab's folder and its certificates are. */
export type ControlPlaneContext = { bin: string; dir: string; pki: Pki };

export const serviceClusterIPRange = '10.96.0.0/16';

/** What runs in kube-controller-manager unless the lab's options say otherwise. */
export const defaultControllers = [
  'serviceaccount-token-controller',
  'serviceaccount-controller',
  'namespace-controller',
  'root-ca-certificate-publisher-controller',
  'garbage-collector-controller',
  'certificatesigningrequest-approving-controller',
  'certificatesigningrequest-signing-controller',
  'token-cleaner-controller',
  'disruption-controller',
  'replicaset-controller',
] as const;

function httpStatus(url: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { signal, agent: false }, (incoming) => {
      incoming.resume();
      resolve(incoming.statusCode ?? 0);
    });
    outgoing.once('error', reject);
    outgoing.end();
  });
}

/** Starts etcd and resolves when it is healthy. Without fsync: a lab's data may be lost with the machine. */
export async function startEtcd({ bin, dir }: ControlPlaneContext, clientPort: number, peerPort: number): Promise<LabProcess> {
  const client = `http://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const etcd = await startProcess({
    name: 'etcd',
    command: join(bin, 'etcd'),
    args: [
      `--data-dir=${join(dir, 'etcd')}`,
      '--unsafe-no-fsync',
      '--log-level=warn',
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
      '--quota-backend-bytes=4294967296',
    ],
    log: join(dir, 'etcd.log'),
  });
  await readyOrEnded(etcd, (signal) =>
    waitFor(async () => (await httpStatus(`${client}/health`, signal)) === 200, { what: 'etcd to be healthy', signal, interval: 25 }),
  );
  return etcd;
}

export type ApiServerOptions = {
  port: number;
  etcdPort: number;
  /** Added at the end, so they win over ours. */
  flags: readonly string[];
};

/** Starts kube-apiserver, with everything that aggregation needs, and resolves when /readyz says so to `client`. */
export async function startKubeApiServer(
  { bin, dir, pki: { files } }: ControlPlaneContext,
  { port, etcdPort, flags }: ApiServerOptions,
  client: ApiClient,
): Promise<LabProcess> {
  const apiserver = await startProcess({
    name: 'kube-apiserver',
    command: join(bin, 'kube-apiserver'),
    args: [
      `--etcd-servers=http://127.0.0.1:${etcdPort}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${port}`,
      // Never used: nobody reconciles the endpoints of the Service "kubernetes". It only may not be a loopback address.
      '--advertise-address=192.0.2.1',
      '--endpoint-reconciler-type=none',
      `--tls-cert-file=${files['apiserver.crt']}`,
      `--tls-private-key-file=${files['apiserver.key']}`,
      `--client-ca-file=${files['ca.crt']}`,
      '--authorization-mode=RBAC',
      '--enable-bootstrap-token-auth=true',
      '--allow-privileged=true',
      // Its taint is taken away by a controller that does not run here.
      '--disable-admission-plugins=TaintNodesByCondition',
      `--service-cluster-ip-range=${serviceClusterIPRange}`,
      '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
      `--service-account-key-file=${files['sa.pub']}`,
      `--service-account-signing-key-file=${files['sa.key']}`,
      `--requestheader-client-ca-file=${files['front-proxy-ca.crt']}`,
      '--requestheader-allowed-names=front-proxy-client',
      '--requestheader-username-headers=X-Remote-User',
      '--requestheader-group-headers=X-Remote-Group',
      '--requestheader-extra-headers-prefix=X-Remote-Extra-',
      `--proxy-client-cert-file=${files['front-proxy-client.crt']}`,
      `--proxy-client-key-file=${files['front-proxy-client.key']}`,
      '--enable-aggregator-routing=true',
      ...flags,
    ],
    log: join(dir, 'kube-apiserver.log'),
  });
  await readyOrEnded(apiserver, (signal) =>
    waitFor(async () => (await client.request('GET', '/readyz', { signal })).status === 200, {
      what: 'kube-apiserver to be ready',
      timeout: 60_000,
      signal,
    }),
  );
  return apiserver;
}

/** Starts kube-controller-manager and resolves when its first effect, the default ServiceAccount of namespace default, is there. */
export async function startControllerManager(
  { bin, dir, pki: { files } }: ControlPlaneContext,
  { kubeconfig, controllers }: { kubeconfig: string; controllers: readonly string[] },
  client: ApiClient,
): Promise<LabProcess> {
  const manager = await startProcess({
    name: 'kube-controller-manager',
    command: join(bin, 'kube-controller-manager'),
    args: [
      `--kubeconfig=${kubeconfig}`,
      `--controllers=${controllers.join(',')}`,
      '--leader-elect=false',
      '--secure-port=0',
      '--use-service-account-credentials=true',
      `--service-account-private-key-file=${files['sa.key']}`,
      `--root-ca-file=${files['ca.crt']}`,
      `--cluster-signing-cert-file=${files['ca.crt']}`,
      `--cluster-signing-key-file=${files['ca.key']}`,
      '--kube-api-qps=200',
      '--kube-api-burst=400',
    ],
    log: join(dir, 'kube-controller-manager.log'),
  });
  if (controllers.includes('serviceaccount-controller')) {
    const path = '/api/v1/namespaces/default/serviceaccounts/default';
    await readyOrEnded(manager, (signal) =>
      waitFor(async () => (await client.request('GET', path, { signal })).status === 200, {
        what: 'kube-controller-manager to make the default ServiceAccount',
        signal,
      }),
    );
  }
  return manager;
}
