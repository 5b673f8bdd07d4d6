import type { KubeClient } from '../../kube/client.ts';
import type { Cloud } from './clouds/cloud.ts';
import type { InstanceRef, NodeIdentity } from './clouds/provider-id.ts';
import type { Guard } from './guards/guard.ts';
import type { NodeMetrics } from './metrics.ts';
import type { NodeDirectory } from './node-directory.ts';
import type { MachineOf } from './node-facts.ts';
import type { Ledger } from './operations/ledger.ts';
import type { OperationsCache } from './operations/operations-cache.ts';
import type { OperationStore } from './operations/store.ts';
import type { NodeSettings } from './settings.ts';

/** What the handlers of this room work with. Made once by `nodeRoom`. */
export type NodeRoom = {
  client: KubeClient;
  directory: NodeDirectory;
  operations: OperationsCache;
  store: OperationStore;
  ledger: Ledger;
  guards: readonly Guard[];
  /** Throws ProviderIDError. */
  connect: (node: NodeIdentity) => { cloud: Cloud; ref: InstanceRef };
  /** Never throws; says why when the node has no machine of a known cloud. */
  machineOf: MachineOf;
  settings: NodeSettings;
  metrics: NodeMetrics;
  onError: (error: unknown) => void;
};
