import type { NodeBudget } from './guards/max-nodes-down.ts';

/** What an administrator can set for node operations. Times in milliseconds. */
export type NodeSettings = {
  /** Namespace of the hub: ConfigMaps and Leases are kept there. */
  namespace: string;
  maxNodesDown: NodeBudget;
  maxNodesDownPerZone: NodeBudget;
  /** Pause between two restarts of one node; 0 turns the guard off. */
  cooldownMs: number;
  /** Operations that may be active at once; more are answered with 429. */
  maxOperations: number;
  /** Default for `timeoutSeconds`. */
  operationTimeoutMs: number;
  /** Default for `drainTimeoutSeconds`. */
  drainTimeoutMs: number;
  /** How long evidence is waited for when a call's outcome is unknown, before it is repeated. */
  evidenceMs: number;
  /** Ended operations are deleted when they are older, or when there are more than `historyLimit`. */
  historyTTLMs: number;
  historyLimit: number;
  /** Whether Leases of the namespace `medik8s-leases` are honoured. */
  medik8sLeases: boolean;
};

export const DEFAULT_NODE_SETTINGS: Omit<NodeSettings, 'namespace'> = {
  maxNodesDown: { percent: 10 },
  maxNodesDownPerZone: { percent: 10 },
  cooldownMs: 300_000,
  maxOperations: 100,
  operationTimeoutMs: 900_000,
  drainTimeoutMs: 300_000,
  evidenceMs: 300_000,
  historyTTLMs: 7 * 86_400_000,
  historyLimit: 1_000,
  medik8sLeases: true,
};
