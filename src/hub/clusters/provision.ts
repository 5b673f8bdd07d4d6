import { CLUSTERS_API, CLUSTERS_VERSION, type ClusterRegistrationRequest, type ManagedCluster } from '../../kube/clusternet.ts';
import { KubeError } from '../../kube/errors.ts';
import { deleteIfThere, ensure, getOrNothing } from './ensure.ts';
import { namespaceNames } from './names.ts';
import { agentAccess, clusterLabels, secretAccess } from './objects.ts';
import { report } from './request-status.ts';
import type { LeadingRoom } from './room.ts';

/** On the agent's ServiceAccount: uid of the request it was made for. */
const REQUEST_UID = 'infraops.michael.io/request-uid';
/** Labels with these prefixes are not the agent's to choose. */
const RESERVED = /^([\w.-]+\.)?(clusternet\.io|michael\.io|kubernetes\.io|k8s\.io)\//;

/** Name of the ManagedCluster of a request that does not ask for one. */
export const managedName = ({ spec }: ClusterRegistrationRequest): string =>
  spec.clusterName || (namespaceNames(spec.clusterId)[0] ?? spec.clusterId);

/** ManagedClusters of the cluster in its namespace, asked of the API server. */
export async function managedClustersIn(room: LeadingRoom, namespace: string, clusterID: string): Promise<ManagedCluster[]> {
  const path = `${CLUSTERS_API}/namespaces/${namespace}/managedclusters`;
  const list = await room.client.request<{ items: ManagedCluster[] }>({ path, signal: room.signal });
  return list.items.filter(({ spec }) => spec.clusterId === clusterID);
}

export async function makeManagedCluster(
  request: ClusterRegistrationRequest,
  namespace: string,
  name: string,
  room: LeadingRoom,
): Promise<void> {
  const { clusterId, clusterType, syncMode, clusterLabels: wanted = {} } = request.spec;
  const chosen = Object.fromEntries(Object.entries(wanted).filter(([label]) => !RESERVED.test(label)));
  await room.client.request({
    method: 'POST',
    path: `${CLUSTERS_API}/namespaces/${namespace}/managedclusters`,
    body: {
      apiVersion: CLUSTERS_VERSION,
      kind: 'ManagedCluster',
      metadata: { name, namespace, labels: { ...chosen, ...clusterLabels(clusterId, name) } },
      spec: { clusterId, syncMode: syncMode ?? 'Pull', ...(clusterType && { clusterType }) },
    },
    signal: room.signal,
  });
}

/**
 * Account and rights of the agent, as they must be. An account of an earlier request is made anew: with it the old tokens end.
 * `fresh`: the namespace was made just now.
 */
export async function ensureAccess(
  request: ClusterRegistrationRequest,
  namespace: string,
  name: string,
  fresh: boolean,
  room: LeadingRoom,
): Promise<void> {
  const { client, signal } = room;
  const { clusterId, sealingKey } = request.spec;
  const uid = request.metadata.uid ?? '';
  for (const wanted of agentAccess(clusterId, namespace, name, !sealingKey)) {
    const { collection, object } = wanted;
    if (object['kind'] !== 'ServiceAccount') {
      await ensure(client, wanted, signal, fresh);
      continue;
    }
    const path = `${collection}/${object.metadata.name}`;
    const account = fresh ? undefined : await getOrNothing<{ metadata: { annotations?: Record<string, string> } }>(client, path, signal);
    if (account?.metadata.annotations?.[REQUEST_UID] === uid) continue;
    if (account) await deleteIfThere(client, path, signal);
    const stamped = { ...object, metadata: { ...object.metadata, annotations: { [REQUEST_UID]: uid } } };
    await ensure(client, { collection, object: stamped }, signal, true);
  }
  if (sealingKey) return;
  try {
    await ensure(client, secretAccess(clusterId, namespace, name), signal);
  } catch (error) {
    // The right to hand this out is an administrator's choice; the tunnel works without.
    if (!(error instanceof KubeError) || (error.code !== 403 && error.code !== 404)) throw error;
    report(request, room, {
      type: 'Warning',
      reason: 'NoSecretForDeployer',
      action: 'Grant',
      note: 'The agent may not keep the Secret child-cluster-deployer: add the component deploy/crds/clusternet-agents if clusternet deploys to this cluster.',
    });
  }
}
