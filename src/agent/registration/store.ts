import type { SealingKeys } from '../../tunnel/seal.ts';

/** What the parent gave this cluster. */
export type Credential = {
  clusterId: string;
  /** For which parent it is good. */
  parentURL: string;
  token: string;
  /** CA of the parent, PEM; '' when it named none. */
  ca: string;
  /** Dedicated namespace in the parent, and the ManagedCluster in it. */
  namespace: string;
  managedCluster: string;
  /** When it was taken into use here, and when it ends (undefined: never), in milliseconds since the epoch by the local clock. */
  obtainedAt: number;
  expiresAt: number | undefined;
};

/** Where credentials and the sealing key survive a restart. All calls throw when the place cannot be reached. */
export type Store = {
  /** In words, for the log. */
  place: string;
  credential(): Promise<Credential | undefined>;
  saveCredential(credential: Credential): Promise<void>;
  keys(): Promise<SealingKeys | undefined>;
  /** Saves unless there are some; returns those that stand there afterwards. */
  saveKeys(keys: SealingKeys): Promise<SealingKeys>;
};

/** Numbers as text, as Secrets hold them; undefined when it is none. */
export function timeOf(text: string | undefined): number | undefined {
  const time = Date.parse(text ?? '');
  return Number.isNaN(time) ? undefined : time;
}
