import type { KubeClient } from '../../kube/client.ts';
import { CLUSTER_ID_LABEL, type ClusterRegistrationRequest, CREATED_BY_LABEL } from '../../kube/clusternet.ts';
import { isConflict } from '../../kube/errors.ts';
import { getOrNothing } from './ensure.ts';
import { CREATED_BY, namespaceNames } from './names.ts';
import { clusterLabels } from './objects.ts';

export type Namespace = { metadata: { name: string; deletionTimestamp?: string; labels?: Record<string, string> } };

const NAMESPACES = '/api/v1/namespaces';

/** The request cannot have the namespace it asks for; the message says why. */
export class NamespaceTaken extends Error {
  override name = 'NamespaceTaken';
}

/** Something has to end first; the work is to be tried again soon. */
export class NotYet extends Error {
  override name = 'NotYet';
}

export const isOurs = ({ metadata }: Namespace): boolean => metadata.labels?.[CREATED_BY_LABEL] === CREATED_BY;

/** Namespaces of a cluster (one, as a rule), found by label. */
export async function namespacesOf(client: KubeClient, clusterID: string, signal: AbortSignal): Promise<Namespace[]> {
  const list = await client.request<{ items: Namespace[] }>({
    path: NAMESPACES,
    query: { labelSelector: `${CLUSTER_ID_LABEL}=${clusterID}` },
    signal,
  });
  return list.items;
}

/** Ids of all clusters that have a namespace, or rights, made by this room. */
export async function clustersWithObjects(client: KubeClient, signal: AbortSignal): Promise<Set<string>> {
  const query = { labelSelector: `${CREATED_BY_LABEL}=${CREATED_BY},${CLUSTER_ID_LABEL}` };
  const paths = [NAMESPACES, '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings'];
  const lists = await Promise.all(paths.map((path) => client.request<{ items: Namespace[] }>({ path, query, signal })));
  return new Set(lists.flatMap(({ items }) => items.flatMap(({ metadata }) => metadata.labels?.[CLUSTER_ID_LABEL] ?? [])));
}

/** The namespace that the cluster has already: a cluster that was installed anew, or a crash. Throws NotYet while it is being deleted. */
export async function presentNamespace(
  client: KubeClient,
  { spec, status }: ClusterRegistrationRequest,
  signal: AbortSignal,
): Promise<string | undefined> {
  const found = await namespacesOf(client, spec.clusterId, signal);
  const { dedicatedNamespace } = status ?? {};
  const known = found.find(({ metadata }) => metadata.name === dedicatedNamespace);
  const chosen =
    known ??
    // Somebody took the label away: what this room wrote itself counts.
    (dedicatedNamespace ? await getOrNothing<Namespace>(client, `${NAMESPACES}/${dedicatedNamespace}`, signal) : undefined) ??
    found.find(({ metadata }) => metadata.name === spec.clusterNamespace) ??
    found.find(isOurs) ??
    found[0];
  if (chosen?.metadata.deletionTimestamp) throw new NotYet(`namespace ${chosen.metadata.name} is still being deleted`);
  return chosen?.metadata.name;
}

/**
 * Makes the dedicated namespace. A name that the agent asks for must be free: in a namespace that exists already it would get rights among things of others,
 * unless a person has labelled it for this cluster. Throws NamespaceTaken.
 */
export async function makeNamespace(
  client: KubeClient,
  { spec }: ClusterRegistrationRequest,
  clusterName: string,
  signal: AbortSignal,
): Promise<string> {
  const { clusterId, clusterNamespace } = spec;
  for (const name of clusterNamespace ? [clusterNamespace] : namespaceNames(clusterId)) {
    const metadata = { name, labels: clusterLabels(clusterId, clusterName) };
    try {
      await client.request({ method: 'POST', path: NAMESPACES, body: { apiVersion: 'v1', kind: 'Namespace', metadata }, signal });
      return name;
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
    // Ours after all, when the answer to an earlier attempt was lost.
    const there = await getOrNothing<Namespace>(client, `${NAMESPACES}/${name}`, signal);
    if (there?.metadata.labels?.[CLUSTER_ID_LABEL] === clusterId) return name;
  }
  if (!clusterNamespace) throw new Error(`no name is free for the namespace of cluster ${clusterId}`);
  throw new NamespaceTaken(
    `the namespace ${clusterNamespace} exists and is not this cluster's: choose another, or label it ${CLUSTER_ID_LABEL}=${clusterId}`,
  );
}
