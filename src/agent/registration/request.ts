import {
  CLUSTER_ID_LABEL,
  CLUSTER_NAME_LABEL,
  CLUSTERS_VERSION,
  type ClusterRegistrationRequest,
  REGISTERED_BY_LABEL,
  registrationName,
  type SyncMode,
} from '../../kube/clusternet.ts';

/** How a cluster wants to be known in the parent. Empty texts leave it to the parent. */
export type ClusterDescription = { name: string; namespace: string; type: string; labels: Record<string, string>; syncMode: SyncMode };

/** What the agent sends: all that a ClusterRegistrationRequest has before the server has seen it. */
export type NewRequest = Omit<ClusterRegistrationRequest, 'metadata' | 'status'> & {
  metadata: { name: string; labels: Record<string, string>; annotations?: Record<string, string> };
};

/** The request of a cluster that wants in, sealed answers to `publicKey`. */
export function registrationRequest(clusterId: string, cluster: ClusterDescription, publicKey: string): NewRequest {
  const name = cluster.name || `cluster-${clusterId.slice(0, 8)}`;
  return {
    apiVersion: CLUSTERS_VERSION,
    kind: 'ClusterRegistrationRequest',
    metadata: {
      name: registrationName(clusterId),
      labels: { [REGISTERED_BY_LABEL]: 'clusternet-agent', [CLUSTER_ID_LABEL]: clusterId, [CLUSTER_NAME_LABEL]: name },
    },
    spec: {
      clusterId,
      clusterName: name,
      clusterType: cluster.type,
      syncMode: cluster.syncMode,
      sealingKey: publicKey,
      ...(cluster.namespace && { clusterNamespace: cluster.namespace }),
      ...(Object.keys(cluster.labels).length > 0 && { clusterLabels: cluster.labels }),
    },
  };
}
