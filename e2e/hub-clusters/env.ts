import { randomBytes, randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { Registry } from 'prom-client';
import { type Clusters, clusterRoom } from '../../src/hub/clusters/cluster-room.ts';
import type { Connection } from '../../src/hub/clusters/connections.ts';
import { REQUESTED_BY_GROUPS } from '../../src/hub/clusters/names.ts';
import { watchParentCA } from '../../src/hub/clusters/parent-ca.ts';
import { BOOTSTRAP_GROUP, DEFAULT_CLUSTER_SETTINGS } from '../../src/hub/clusters/settings.ts';
import { kubeClient } from '../../src/kube/client.ts';
import { CLUSTERS_API, type ClusterRegistrationRequest, registrationName } from '../../src/kube/clusternet.ts';
import { loadKubeConfig } from '../../src/kube/config.ts';
import { eventRecorder } from '../../src/kube/events.ts';
import { sealingKeys, unseal } from '../../src/tunnel/seal.ts';
import { type ApiClient, createApiClient } from '../lab/api-client.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { waitFor } from '../lab/wait.ts';

const deploy = fileURLToPath(new URL('../../deploy', import.meta.url));
export const REQUESTS = `${CLUSTERS_API}/clusterregistrationrequests`;

/** A parent with the room of clusters, as the hub's own ServiceAccount, in this process. */
export type ClustersEnv = {
  lab: Lab;
  clusters: Clusters;
  /** Tunnels, as src/hub/sockets would know them. */
  connections: Map<string, Connection>;
  told: string[];
  errors: string[];
  /** kubectl as admin; throws when it fails. */
  kubectl(...args: string[]): Promise<string>;
  /** A client with a token, or as nobody. */
  as(token?: string): ApiClient;
  /** A new bootstrap token of the group. */
  bootstrapToken(expires?: Date): Promise<string>;
  stop(): Promise<void>;
};

export async function clustersEnv(): Promise<ClustersEnv> {
  const lab = await startLab({ moto: false, kwok: false, nodes: [] });
  const stopping = new AbortController();
  const kubectl = async (...args: string[]) => {
    const { code, stdout, stderr } = await lab.kubectl(args);
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  try {
    for (const file of ['namespace', 'service-account', 'rbac'])
      await kubectl('apply', '--server-side', '-f', `${deploy}/hub/${file}.yaml`);
    await kubectl('apply', '--server-side', '-k', `${deploy}/crds`);
    await kubectl(
      'wait',
      '--for=condition=Established',
      'crd/clusterregistrationrequests.clusters.clusternet.io',
      'crd/managedclusters.clusters.clusternet.io',
    );

    const config = await loadKubeConfig(await lab.serviceAccountKubeconfig('fairlead-system', 'fairlead-hub'));
    const client = kubeClient(config);
    const { signal } = stopping;
    const errors: string[] = [];
    const onError = (error: unknown) => void errors.push(error instanceof Error ? error.message : String(error));
    const connections = new Map<string, Connection>();
    const clusters = clusterRoom({
      client,
      connections: { get: (id) => connections.get(id) },
      settings: {
        ...DEFAULT_CLUSTER_SETTINGS,
        unknownAfterMs: 1_000,
        parentCA: watchParentCA({ client, namespace: 'fairlead-system', config, signal, onError }),
      },
      registry: new Registry(),
      events: eventRecorder({ client, controller: 'fairlead-hub', instance: 'test', signal, onError }),
      signal,
      onError,
    });
    const told: string[] = [];
    clusters.sockets.onChange((id) => void told.push(id), signal);
    const leading = clusters.lead({ signal, holds: () => !signal.aborted });

    // Enforced some time after it was written; and the hub trusts only requests that are younger than the policy.
    await waitFor(
      async () =>
        (await lab.api.request('POST', `${REQUESTS}?dryRun=All`, { body: requestOf(randomUUID(), { groups: ['nobody-is-in'] }) }))
          .status === 422,
      { what: 'the admission policy to be enforced' },
    );
    const policy = await lab.api.json<{ metadata: { creationTimestamp: string } }>(
      'GET',
      '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/fairlead-cluster-registration',
    );
    await waitFor(() => Date.now() > Date.parse(policy.metadata.creationTimestamp) + 1_500, { what: 'the policy to be older' });

    return {
      lab,
      clusters,
      connections,
      told,
      errors,
      kubectl,
      as(token) {
        const one = createApiClient({ server: lab.apiServerURL, ca: lab.ca, ...(token && { credentials: { token } }) });
        lab.defer(one.close);
        return one;
      },
      async bootstrapToken(expires = new Date(Date.now() + 3_600_000)) {
        const [id, secret] = [randomBytes(3).toString('hex'), randomBytes(8).toString('hex')];
        await lab.api.json('POST', '/api/v1/namespaces/kube-system/secrets', {
          body: {
            apiVersion: 'v1',
            kind: 'Secret',
            type: 'bootstrap.kubernetes.io/token',
            metadata: { name: `bootstrap-token-${id}` },
            stringData: {
              'token-id': id,
              'token-secret': secret,
              'usage-bootstrap-authentication': 'true',
              expiration: expires.toISOString(),
              'auth-extra-groups': BOOTSTRAP_GROUP,
            },
          },
        });
        return `${id}.${secret}`;
      },
      async stop() {
        stopping.abort();
        await leading;
        client.close();
        await lab.stop();
      },
    };
  } catch (error) {
    stopping.abort();
    await lab.stop();
    throw error;
  }
}

/** A request as an agent makes it. */
export function requestOf(id: string, options: { groups?: string[]; spec?: object } = {}): object {
  return {
    apiVersion: 'clusters.clusternet.io/v1beta1',
    kind: 'ClusterRegistrationRequest',
    metadata: {
      name: registrationName(id),
      ...(options.groups && { annotations: { [REQUESTED_BY_GROUPS]: options.groups.join(',') } }),
    },
    spec: { clusterId: id, ...options.spec },
  };
}

/** A stranger with a bootstrap token who registers a cluster and waits for the result. */
export async function register(env: ClustersEnv, name: string, options: { id?: string; claim?: boolean; key?: boolean } = {}) {
  const { id = randomUUID(), claim = true, key = true } = options;
  const keys = sealingKeys();
  const stranger = env.as(await env.bootstrapToken());
  const path = `${REQUESTS}/${registrationName(id)}`;
  const body = requestOf(id, {
    ...(claim && { groups: [BOOTSTRAP_GROUP] }),
    spec: { clusterName: name, clusterType: 'StandardCluster', ...(key && { sealingKey: keys.publicKey }) },
  });
  const made = await stranger.request('POST', REQUESTS, { body });
  const read = () => stranger.json<ClusterRegistrationRequest>('GET', path);
  const result = async (wanted: string) =>
    await waitFor(
      async () => {
        const request = await read();
        if (request.status?.result !== wanted) throw new Error(`${JSON.stringify(request.status)}; ${env.errors.join('; ')}`);
        return request;
      },
      { what: `request of ${name} to be ${wanted}`, timeout: 60_000 },
    );
  const tokenOf = ({ status }: ClusterRegistrationRequest) =>
    key ? unseal(keys, status?.sealedToken ?? '', id) : Buffer.from(status?.token ?? '', 'base64').toString();
  return { id, path, stranger, made, read, result, tokenOf };
}
