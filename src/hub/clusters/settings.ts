import type { ChildTrust } from './child-trust.ts';

/** What an administrator can set for child clusters. */
export type ClusterSettings = {
  /** Requests made by a member of one of these groups are approved without a person; empty: always by hand. */
  approval: { groups: readonly string[] };
  /** Life of an agent's token, in seconds; at least 600. */
  tokenSeconds: number;
  /** CA of the parent's API server (PEM), for agents; undefined while it is not known. */
  parentCA: () => string | undefined;
  /** By what children of clusternet's agents are known; without it none of them is. */
  childTrust?: ChildTrust;
  /** Address of the hub itself, past kube-apiserver, and its CA (PEM): shown in InfraCluster. */
  directURL?: string;
  directCA?: () => string | undefined;
  /** How long after its last tunnel ended a cluster becomes Ready=Unknown, in milliseconds. */
  unknownAfterMs: number;
};

/** Group of clusternet's bootstrap tokens. */
export const BOOTSTRAP_GROUP = 'system:bootstrappers:clusternet:register-cluster-token';

/** The least that `tokenSeconds` may be: kube-apiserver refuses less. */
export const MIN_TOKEN_SECONDS = 600;

export const DEFAULT_CLUSTER_SETTINGS: Omit<ClusterSettings, 'parentCA'> = {
  approval: { groups: [BOOTSTRAP_GROUP] },
  tokenSeconds: 3_600,
  unknownAfterMs: 15_000,
};
