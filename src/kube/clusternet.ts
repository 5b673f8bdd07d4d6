/** The objects of `clusters.clusternet.io/v1beta1`, with the fields of clusternet and those that Fairlead adds (marked "ours"). deploy/crds has the CRDs. */

export const CLUSTERS_API = '/apis/clusters.clusternet.io/v1beta1';
export const CLUSTERS_VERSION = 'clusters.clusternet.io/v1beta1';

/** Labels that clusternet puts on everything of a cluster. */
export const CLUSTER_ID_LABEL = 'clusters.clusternet.io/cluster-id';
export const CLUSTER_NAME_LABEL = 'clusters.clusternet.io/cluster-name';
export const REGISTERED_BY_LABEL = 'clusters.clusternet.io/registered-by';
export const CREATED_BY_LABEL = 'clusternet.io/created-by';

/** Name of the request of a cluster. */
export const registrationName = (clusterId: string): string => `clusternet-${clusterId}`;

type Metadata = {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion: string;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
};

export type SyncMode = 'Push' | 'Pull' | 'Dual';

/** `clsrr`, cluster-scoped: a cluster that wants in. */
export type ClusterRegistrationRequest = {
  apiVersion?: string;
  kind?: string;
  metadata: Metadata;
  spec: {
    clusterId: string;
    clusterType?: string;
    clusterName?: string;
    clusterNamespace?: string;
    clusterLabels?: Record<string, string>;
    syncMode?: SyncMode;
    /** Ours: public key (X25519, SPKI DER, base64) that the credentials are sealed to. */
    sealingKey?: string;
    /** Ours: changed by the agent to ask for a new token before the old one ends; any text of at most 64 characters. */
    renewal?: string;
    /** Ours: set by a person: `Approved` or `Denied`. Empty leaves it to the policy. */
    decision?: 'Approved' | 'Denied';
  };
  status?: {
    dedicatedNamespace?: string;
    managedClusterName?: string;
    /** Base64. Only for an agent without `sealingKey`. */
    token?: string;
    /** Base64 of PEM. */
    caCertificate?: string;
    result?: 'Approved' | 'Denied' | 'Failed' | 'Pending' | '';
    errorMessage?: string;
    /** Ours: the token sealed to `sealingKey` (src/tunnel/seal.ts), base64. */
    sealedToken?: string;
    /** Ours: when that token ends (RFC 3339). */
    tokenExpirationTimestamp?: string;
    /** Ours: `spec.renewal` that this token answers. */
    renewal?: string;
    /** Ours: credential ids (`JTI=...`) that may open the socket, newest first. An id that is not here any more is refused at once. */
    credentialIDs?: string[];
  };
};

export type Condition = {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason: string;
  message: string;
  lastTransitionTime: string;
};

export type Quantities = { cpu?: string; memory?: string };

export type ManagedClusterStatus = {
  lastObservedTime?: string;
  k8sVersion?: string;
  agentVersion?: string;
  platform?: string;
  apiserverURL?: string;
  healthz?: boolean;
  livez?: boolean;
  readyz?: boolean;
  appPusher?: boolean;
  useSocket?: boolean;
  kubeQPS?: number;
  kubeBurst?: number;
  allocatable?: Quantities;
  capacity?: Quantities;
  clusterCIDR?: string;
  serviceCIDR?: string;
  nodeStatistics?: { readyNodes?: number; notReadyNodes?: number; unknownNodes?: number; lostNodes?: number };
  podStatistics?: { runningPods?: number; totalPods?: number };
  conditions?: Condition[];
  heartbeatFrequencySeconds?: number;
};

/** `mcls`, in the cluster's dedicated namespace: a cluster that is in. */
export type ManagedCluster = {
  apiVersion?: string;
  kind?: string;
  metadata: Metadata;
  spec: { clusterId: string; clusterType?: string; syncMode: SyncMode; taints?: unknown[]; clusterInitBaseName?: string };
  status?: ManagedClusterStatus;
};
