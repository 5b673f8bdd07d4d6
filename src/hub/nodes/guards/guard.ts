import type { NodeFacts } from '../node-facts.ts';
import type { Action, NodeOperationSpec } from '../schema.ts';

/** An operation that has been admitted and has not ended. */
export type ActiveOperation = { name: string; node: string; zone: string; controlPlane: boolean; action: Action };

/** What guards look at. `now` is wall-clock time, to be compared only with times that people or other processes wrote. */
export type GuardInput = {
  node: NodeFacts;
  spec: NodeOperationSpec;
  /** All nodes of the cluster. */
  nodes: () => Iterable<NodeFacts>;
  /** Operations in the ledger, without the one that is being judged. */
  active: readonly ActiveOperation[];
  now: Date;
};

/** `evidence` says what was seen, `remedy` what would clear it, as a command where there is one. */
export type Verdict = { passed: boolean; evidence: string; remedy?: string };

export interface Guard {
  /** CamelCase; it stands in `details.causes[].field`, in metrics and in `status.guards`. */
  readonly name: string;
  /** False for what nobody may bypass, not even with `force`. */
  readonly forceable: boolean;
  /** Whether it is asked once more right before the cloud is called, because draining, or waiting for a leader, may have taken long. */
  readonly recheck: boolean;
  check(input: GuardInput): Verdict | Promise<Verdict>;
}

export const pass = (evidence: string): Verdict => ({ passed: true, evidence });
export const refuse = (evidence: string, remedy: string): Verdict => ({ passed: false, evidence, remedy });

/** Starting a machine takes nothing away; guards that protect what is running let it through with this. */
export const STARTS = pass('a start takes nothing down');
