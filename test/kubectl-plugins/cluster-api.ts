import { randomBytes, randomUUID } from 'node:crypto';
import { type Authority, createAuthority, issueCertificate } from '../../e2e/lab/certificates.ts';
import type { InfraCluster } from '../../src/hub/clusters/schema.ts';
import type { ClusterRegistrationRequest } from '../../src/kube/clusternet.ts';
import { type KubeApi, kubeApi, type Seen } from '../support/kube-api.ts';

export const CLSRR = '/apis/clusters.clusternet.io/v1beta1/clusterregistrationrequests';
export const CLUSTERS = '/apis/infraops.michael.io/v1/clusters';

/** The in-memory API with what the plugins read of child clusters. */
export type ClusterApi = {
  api: KubeApi;
  url: string;
  authority: Authority;
  token: string;
  /** Puts a registration request and returns the cluster's id. */
  request(clusterName: string | undefined, status?: ClusterRegistrationRequest['status'], id?: string): string;
  get(id: string): ClusterRegistrationRequest | undefined;
  /** Puts an InfraCluster and returns its id. */
  cluster(name: string, status?: Partial<InfraCluster['status']>, id?: string): string;
  /** Lets a hub answer to decisions: what it returns becomes the status of the request. */
  hub(answer: (request: ClusterRegistrationRequest) => ClusterRegistrationRequest['status']): void;
  /** The requests that changed something. */
  writes(): Seen[];
  close(): Promise<void>;
};

export async function startClusterApi(): Promise<ClusterApi> {
  const authority = createAuthority('parent');
  const serving = issueCertificate(authority, { commonName: 'api', usages: ['serverAuth'], altNames: ['127.0.0.1', 'api.example.test'] });
  const api = await kubeApi({ tls: { cert: serving.certificate, key: serving.key, ca: authority.certificate } });
  // As kube-apiserver says it: an object that is missing has its name in the details, a resource that is missing has none.
  api.fault(({ method, path }) => {
    const [, name] = /^(?:\/apis\/[^/]+\/[^/]+\/(?:clusterregistrationrequests|clusters))\/([^/]+)$/.exec(path) ?? [];
    if (method !== 'GET' || !name || api.get(path)) return undefined;
    // The hub knows clusters by their id too.
    const byID = path.startsWith(CLUSTERS) && api.all(CLUSTERS).find(({ spec }) => spec?.['clusterID'] === name);
    if (byID) return { code: 200, body: byID };
    return { code: 404, body: { kind: 'Status', code: 404, reason: 'NotFound', message: `"${name}" not found`, details: { name } } };
  });
  const get = (id: string) => api.get(`${CLSRR}/clusternet-${id}`) as ClusterRegistrationRequest | undefined;
  return {
    api,
    url: api.server,
    authority,
    token: randomBytes(16).toString('hex'),
    request(clusterName, status, id = randomUUID()) {
      const metadata = { name: `clusternet-${id}`, creationTimestamp: new Date(Date.now() - 125_000).toISOString() };
      const spec = { clusterId: id, ...(clusterName && { clusterName }), syncMode: 'Pull' };
      const kind = { apiVersion: 'clusters.clusternet.io/v1beta1', kind: 'ClusterRegistrationRequest' };
      api.put(CLSRR, { ...kind, metadata, spec, ...(status && { status }) });
      return id;
    },
    get,
    cluster(name, status = {}, id = randomUUID()) {
      const cluster: InfraCluster = {
        apiVersion: 'infraops.michael.io/v1',
        kind: 'InfraCluster',
        metadata: { name },
        spec: { clusterID: id, namespace: 'clusternet-abcde', managedClusterName: name },
        status: { phase: 'Ready', connected: true, roundTripMilliseconds: 12.4, version: 'v1.36.3', ...status },
      };
      api.put(CLUSTERS, cluster);
      return id;
    },
    hub(answer) {
      api.fault(({ method, path, query }) => {
        if (method !== 'PATCH' || !path.startsWith(CLSRR) || query.get('dryRun')) return undefined;
        setImmediate(() => {
          const request = api.get(path) as ClusterRegistrationRequest | undefined;
          const status = request && answer(request);
          if (status) api.put(CLSRR, { ...request, status });
        });
        return undefined;
      });
    },
    writes: () => api.seen.filter(({ method }) => method !== 'GET'),
    close: () => api.close(),
  };
}
