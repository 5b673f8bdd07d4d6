import type { MachineView } from '../../machine/machine.ts';

/**
 * What the machine was before the install, as undo needs to know it: written once by the install's first step, read by every undo (that of a deletion a year later too).
 * Kept apart from the operations' own folders, because a deletion is another operation.
 */
export type Ledger = {
  /** Running values, by name with dots. */
  sysctls: Record<string, string>;
  /** Kernel modules that were loaded. */
  modules: string[];
  interfaces: string[];
  /** Names of images in containerd's namespace k8s.io. */
  images: string[];
  /** Programs that were not there, and whose packages the install is to bring. */
  packages: string[];
  /** Chains of iptables that were named as those of Kubernetes and CNI: another container engine's. */
  chains?: string[];
  /** Lines `family table` of nft. */
  nftTables: string[];
  containerd: { active: boolean; enabled: boolean; config: { content: string; mode: number } | undefined };
};

/** Files that the agent makes for a cluster and that no other program reads. */
export const CLUSTER_FOLDER = '/var/lib/fairlead-cluster';
export const LEDGER_FILE = `${CLUSTER_FOLDER}/before.json`;

/** The ledger; undefined when nothing was installed, or when it was damaged: then nothing is taken back that only the ledger could justify. */
export async function readLedger(machine: MachineView): Promise<Ledger | undefined> {
  const text = await machine.read(LEDGER_FILE);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Ledger;
  } catch {
    return undefined;
  }
}
