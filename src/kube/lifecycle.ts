import { type Static, type TSchema, Type } from 'typebox';

/** What `apiVersion` and `kind` of the agent's own API say (kubeclusteragent's words). */
export const AGENT_API_VERSION = 'v1alpha1';
export const AGENT_API = '/api/v1alpha1';

const text = (description: string, more: object = {}) => Type.Optional(Type.String({ description, ...more }));
const flag = (description: string) => Type.Optional(Type.Boolean({ description }));
const texts = (description: string, more: object = {}) => Type.Optional(Type.Array(Type.String(), { description, ...more }));
const part = <P extends Record<string, TSchema>>(description: string, properties: P) =>
  Type.Optional(Type.Object(properties, { description }));
const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }));
const oneOf = <T extends string>(values: readonly T[], description: string) =>
  Type.Unsafe<T>(Type.String({ enum: [...values], description }));

export const CLUSTER_TYPES = ['kubeadm', 'k3s'] as const;
export type ClusterType = (typeof CLUSTER_TYPES)[number];

/** The wish: what cluster this machine shall be. Field names are kubeclusteragent's; `certificates` and `artifacts` are ours. Defaults: src/agent/lifecycle/spec. */
export const ClusterSpec = Type.Object(
  {
    clusterType: oneOf(CLUSTER_TYPES, 'Distribution of Kubernetes; kubeadm by default.'),
    clusterName: text('Name of the cluster; by default the name of the machine. Cannot be changed.'),
    version: text('Version of Kubernetes, v1.36.3 or 1.36.3 (k3s: v1.36.3+k3s1).'),
    networking: part('Networks of the cluster. Cannot be changed but for the version of the CNI.', {
      podSubnet: text('Addresses of pods in CIDR notation; two, separated by a comma, for dual stack.'),
      svcSubnet: text('Addresses of Services in CIDR notation; two, separated by a comma, for dual stack.'),
      cniManifestURL: text('Where the manifest of the CNI is: https:// without user and query, or file:// on the machine.'),
      cniName: text('Built-in CNI: bridge (default), or cilium, flannel or calico from cniManifestURL.'),
      cniVersion: text('Version of the CNI in cniManifestURL: where a patch changes it, the manifest is applied again (kubeadm).'),
      cilium: part('Settings of cilium.', {
        cliVersion: text('Taken for clients of kubeclusteragent, and not used: cilium comes from cniManifestURL.'),
        installKubeProxy: flag('Whether kube-proxy is installed beside it; true by default.'),
      }),
    }),
    storage: part('Storage of the cluster.', {
      clusterCsi: part('Driver of volumes.', {
        name: text('local-path, or none (default).'),
        version: text('Version of the driver.'),
      }),
    }),
    apiServer: part('The API server.', {
      certSANs: texts('Further names and addresses in its certificate.', { maxItems: 64 }),
    }),
    disableWorkloads: flag('True keeps the node cordoned.'),
    extraArgs: Type.Optional(
      Type.Record(Type.String(), Type.String(), {
        description:
          'Further arguments, COMPONENT.FLAG: apiServer.audit-log-maxage; components are apiServer, controllerManager, scheduler, etcd, kubelet (k3s: server, kubelet).',
      }),
    ),
    clusterRuntime: part('The container runtime.', {
      customiseClusterRuntime: flag('Whether clusterCri counts.'),
      clusterCri: part('Registries.', {
        privateRegistryEndpoints: texts('URLs of the registry, tried in this order.', { maxItems: 16 }),
        privateRegistryFQDN: text('Host, or host:port, of the registry that images come from.'),
        skipTls: flag('True does not verify the registry. Never the default.'),
        registryAuth: part('Credentials for the registry; never answered.', {
          isAuthRequired: flag('Whether user name and password are sent.'),
          username: text('User name.'),
          password: text('Password. Taken, kept in a file that only root reads, never answered.'),
        }),
        certFiles: texts('Files on the machine with CA certificates of the registry.', { maxItems: 16 }),
      }),
    }),
    certificates: part('Certificates of the control plane.', {
      validityPeriod: text('How long certificates live, as in 8760h; by default a year.'),
      caValidityPeriod: text('How long the CA lives, as in 87600h; by default ten years.'),
    }),
    upgrade: part('How an upgrade is done.', {
      componentTimeout: text(
        'How long each part of the control plane may take to come up in its new version, as in 90s or 10m, before everything is undone; by default 5m.',
      ),
    }),
    artifacts: part('Where binaries and images come from; by default what the agent was started with.', {
      source: text(
        'A directory on the machine, or an https:// URL without user and query, with a file SHA256SUMS; empty: the official download hosts.',
      ),
    }),
  },
  { $id: 'io.michael.infraops.v1.ClusterSpec', description: 'What cluster the machine shall be.' },
);
export type ClusterSpec = Static<typeof ClusterSpec>;

/** In the order of a cluster's life; kubeclusteragent's words. */
export const LIFECYCLE_PHASES = [
  'NotInitialised',
  'Provisioning',
  'Provisioned',
  'Upgrading',
  'Deleting',
  'Deleted',
  'KubeConfigResetting',
  'Failed',
  'Unknown',
] as const;
export type LifecyclePhase = (typeof LIFECYCLE_PHASES)[number];

export const CONDITION_TYPES = [
  'ClusterReady',
  'ControlPlaneReady',
  'NodeReady',
  'CniAddonReady',
  'PackageReady',
  'UpgradeSuccess',
  'DeleteSuccess',
  'InstallSuccess',
  'CertificatesValid',
  'FilesUnchanged',
] as const;
export type ConditionType = (typeof CONDITION_TYPES)[number];

export const LifecycleCondition = Type.Object(
  {
    type: oneOf(CONDITION_TYPES, 'What it is about.'),
    status: oneOf(['True', 'False', 'Unknown'] as const, 'Whether it is so.'),
    lastTransitionTime: time('When status changed last.'),
    reason: text('One word why.'),
    message: text('Why, for a person.'),
    severity: text('Error, Warning, Info, or empty.'),
  },
  { $id: 'io.michael.infraops.v1.LifecycleCondition', description: 'One thing that is, or is not, so.' },
);
export type LifecycleCondition = Static<typeof LifecycleCondition>;

export const OPERATION_TYPES = ['Install', 'Upgrade', 'Patch', 'Delete', 'RotateCertificates', 'Repair', 'Restart'] as const;
export type OperationType = (typeof OPERATION_TYPES)[number];
export const OPERATION_PHASES = ['Running', 'Undoing', 'Succeeded', 'Failed'] as const;
export type OperationPhase = (typeof OPERATION_PHASES)[number];
export const STEP_STATES = ['Pending', 'Running', 'Done', 'Skipped', 'Failed', 'Undoing', 'Undone'] as const;
export type StepState = (typeof STEP_STATES)[number];

export const LifecycleOperation = Type.Object(
  {
    id: Type.String({ description: 'Unique on the machine.' }),
    type: oneOf(OPERATION_TYPES, 'What is done.'),
    phase: oneOf(OPERATION_PHASES, 'How far it is. Failed: what was done has been undone, or message says what remains.'),
    requestedBy: text(
      "Who asked: the parent's user, local for a request at the agent's Unix socket, or fairlead-agent for what the agent does by itself.",
    ),
    auditID: text('Audit-ID of the request.'),
    startedAt: time('When it began.'),
    endedAt: time('When it ended.'),
    version: text('Version of Kubernetes that it leads to.'),
    message: text('What failed, with the last words of the command that failed.'),
    nextCommand: text('What to type next, when something is left to a person.'),
    resumed: Type.Optional(Type.Integer({ description: 'How many times the agent took it up again after it had been killed.' })),
    steps: Type.Array(
      Type.Object({
        name: Type.String({ description: 'Unique in the operation.' }),
        state: oneOf(STEP_STATES, 'How far it is.'),
        startedAt: time('When it began.'),
        endedAt: time('When it ended.'),
      }),
      { description: 'In their order.' },
    ),
  },
  { $id: 'io.michael.infraops.v1.LifecycleOperation', description: 'The last operation, or the one that runs.' },
);
export type LifecycleOperation = Static<typeof LifecycleOperation>;

export const ClusterStatus = Type.Object(
  {
    phase: oneOf(LIFECYCLE_PHASES, 'Where in its life the cluster is.'),
    kubernetesVersion: text('Version that runs.'),
    kubeletVersion: text("Version that the node's kubelet reports."),
    cniVersion: text('Version of the CNI.'),
    unschedulable: flag('Whether the node is cordoned.'),
    conditions: Type.Optional(Type.Array(LifecycleCondition, { description: 'At most one of each type.' })),
    operation: Type.Optional(LifecycleOperation),
    drift: Type.Optional(
      Type.Array(
        Type.Object({
          path: Type.String({ description: 'File or sysctl.' }),
          problem: Type.String({ description: 'changed, or missing.' }),
        }),
        {
          description: 'What is no longer as the operations wrote it.',
        },
      ),
    ),
    bootID: text('Boot id of the machine.'),
  },
  { $id: 'io.michael.infraops.v1.ClusterLifecycleStatus', description: 'What the machine is.' },
);
export type ClusterStatus = Static<typeof ClusterStatus>;

/** What the agent answers at /api/v1alpha1/cluster. */
export type AgentCluster = {
  apiVersion: string;
  kind: 'Cluster';
  metadata?: Record<string, string>;
  spec?: ClusterSpec;
  status: ClusterStatus;
};

/** One action of a dry run: exactly what would be done. Secrets are left out. */
export type PlannedAction = {
  step: string;
  /** `command`: argv; the others: path (and content for text files). */
  kind: 'command' | 'write' | 'fetch' | 'remove' | 'service' | 'wait';
  argv?: string[];
  path?: string;
  mode?: string;
  content?: string;
  /** What is done, in words. */
  text: string;
};
/** What a dry run answers. */
export type OperationPlan = { apiVersion: string; kind: 'OperationPlan'; operation: OperationType; actions: PlannedAction[] };

/** One certificate, as kubeclusteragent tells it (times RFC 3339; whole days as a JSON string, being an int64). */
export type CertificateInfo = { name: string; remainingDaysToExpire: string; expiryDate: string; rotationDate?: string };
/** Field name with a capital as in kubeclusteragent. */
export type CertificateList = { CertsInfo: CertificateInfo[] };

/**
 * One entry of the audit history. `hash` is SHA-256, hex, of the JSON of the entry without `hash`, its keys in the order below; `previous` is the hash of the entry before,
 * 64 zeros for the first. `Status` has a capital as in kubeclusteragent.
 */
export type AuditEntry = {
  /** From 1, without gaps. */
  sequence: number;
  operation: string;
  Status: 'In Progress' | 'Completed' | 'Failed';
  reason: string;
  message: string;
  /** RFC 3339. */
  lastExecuted: string;
  clusterType: string;
  currentVersion: string;
  requestedBy: string;
  auditID: string;
  operationID: string;
  previous: string;
  hash: string;
};
/** `omitted`: how many entries from the first on did not fit into the answer; left out: none. The chain goes on behind them at the `previous` of the first that is there. */
export type AuditHistory = { operations: AuditEntry[]; omitted?: number };
