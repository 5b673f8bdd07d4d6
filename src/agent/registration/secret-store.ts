import type { V1Secret } from '@kubernetes/client-node';
import type { KubeClient } from '../../kube/client.ts';
import { CLUSTER_ID_LABEL, CLUSTER_NAME_LABEL } from '../../kube/clusternet.ts';
import { isConflict, isNotFound } from '../../kube/errors.ts';
import type { Store } from './store.ts';
import { timeOf } from './store.ts';

/** Clusternet's name for the Secret with the credentials, so that an agent of either kind finds what the other left. */
export const CREDENTIAL_SECRET = 'parent-cluster';
export const KEY_SECRET = 'fairlead-agent-key';
const BOOTSTRAPPING_LABEL = 'clusters.clusternet.io/bootstrapping';
const MERGE = 'application/merge-patch+json';

/** The state of an agent in a cluster: two Secrets in its namespace. `client` gives the cluster's client of the moment. */
export function secretStore(client: () => KubeClient, namespace: string): Store {
  const collection = `/api/v1/namespaces/${namespace}/secrets`;

  async function read(name: string): Promise<Map<string, string> | undefined> {
    try {
      const { data = {} } = await client().request<V1Secret>({ path: `${collection}/${name}` });
      return new Map(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }
  const secret = (name: string, data: Record<string, string>, labels: Record<string, string> = {}): object => ({
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'Opaque',
    metadata: { name, labels: { 'app.kubernetes.io/managed-by': 'fairlead-agent', ...labels } },
    data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')])),
  });

  return {
    place: `Secret ${namespace}/${CREDENTIAL_SECRET}`,
    async credential() {
      const data = await read(CREDENTIAL_SECRET);
      const [token, ns, url] = [data?.get('token'), data?.get('namespace'), data?.get('apiserver-advertise-url')];
      if (!token || !ns || !url) return undefined;
      return {
        // Clusternet's agent wrote no cluster id and no name into the data; an empty one is looked up.
        clusterId: data?.get('cluster-id') ?? '',
        parentURL: url,
        token,
        ca: data?.get('ca.crt') ?? '',
        namespace: ns,
        managedCluster: data?.get('managed-cluster') ?? '',
        obtainedAt: timeOf(data?.get('obtained-at')) ?? 0,
        expiresAt: timeOf(data?.get('expires-at')),
      };
    },
    async saveCredential(credential) {
      const body = secret(
        CREDENTIAL_SECRET,
        {
          token: credential.token,
          'ca.crt': credential.ca,
          namespace: credential.namespace,
          'apiserver-advertise-url': credential.parentURL,
          'cluster-id': credential.clusterId,
          'managed-cluster': credential.managedCluster,
          'obtained-at': new Date(credential.obtainedAt).toISOString(),
          'expires-at': credential.expiresAt === undefined ? '' : new Date(credential.expiresAt).toISOString(),
        },
        {
          [BOOTSTRAPPING_LABEL]: 'credentials-auto',
          [CLUSTER_ID_LABEL]: credential.clusterId,
          [CLUSTER_NAME_LABEL]: credential.managedCluster,
        },
      );
      const patch = () => client().request({ method: 'PATCH', path: `${collection}/${CREDENTIAL_SECRET}`, contentType: MERGE, body });
      await patch().catch(async (error: unknown) => {
        if (!isNotFound(error)) throw error;
        await client()
          .request({ method: 'POST', path: collection, body })
          .catch((refused: unknown) => {
            // An answer that was lost, or another replica: it is there now.
            if (isConflict(refused)) return patch();
            throw refused;
          });
      });
    },
    async keys() {
      const data = await read(KEY_SECRET);
      const [publicKey, privateKey] = [data?.get('public'), data?.get('private')];
      return publicKey && privateKey ? { publicKey, privateKey } : undefined;
    },
    async saveKeys(keys) {
      const body = secret(KEY_SECRET, { public: keys.publicKey, private: keys.privateKey });
      try {
        await client().request({ method: 'POST', path: collection, body });
        return keys;
      } catch (error) {
        if (!isConflict(error)) throw error;
        const present = await this.keys();
        if (present) return present;
        throw new Error(`Secret ${namespace}/${KEY_SECRET} holds no key pair: delete it, so that the agent makes a new one`, {
          cause: error,
        });
      }
    },
  };
}
