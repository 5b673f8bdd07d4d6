import { KubeError, KubeUnreachableError } from '../../src/kube/errors.ts';
import type { ClusterSpec, ClusterStatus, LifecycleOperation, OperationPlan } from '../../src/kube/lifecycle.ts';
import { API, type Api } from './api.ts';
import { clusterName } from './clusters.ts';
import { UsageError } from './exit.ts';
import { pause } from './pause.ts';

/** The single-node cluster on a machine, as the hub answers it. */
export type ClusterLifecycle = {
  apiVersion?: string;
  kind?: string;
  metadata?: { name?: string };
  spec?: ClusterSpec;
  status?: ClusterStatus;
};
export type Plan = Omit<OperationPlan, 'kind'> & { kind: 'OperationPlan'; metadata?: { name?: string } };

export const lifecyclePath = (cluster: string, subresource = 'lifecycle'): string =>
  `${API}/clusters/${encodeURIComponent(cluster)}/${subresource}`;

/** The one cluster that the words name. Throws UsageError. */
export function oneCluster(words: readonly string[]): string {
  const [cluster, ...more] = words.map(clusterName);
  if (cluster === undefined || more.length > 0) throw new UsageError('which cluster? Give one name, see kubectl infra clusters');
  return cluster;
}

export const hasEnded = ({ phase }: LifecycleOperation): boolean => phase === 'Succeeded' || phase === 'Failed';

const POLL_MS = 1_000;
/** Answers of a caller without rights, or of an agent without this API, are believed when they are repeated. */
const DENIALS = 6;

export type Told = {
  /** Gets each state that was read. */
  changed(operation: LifecycleOperation): void;
  /** Nothing can be read, and it is tried again. A machine that restarts is away for a while. */
  lost(why: string): void;
};

/**
 * Reads until the operation has ended, and returns the cluster as it is then. Lost connections, restarts of agent, hub and machine are passed over. Throws the signal's reason when
 * that fires, and KubeError when the caller may not read the lifecycle, or another operation took the place of this one, so that its outcome is not known.
 */
export async function followLifecycle(api: Api, cluster: string, id: string, told: Told, signal: AbortSignal): Promise<ClusterLifecycle> {
  let denials = 0;
  for (;;) {
    signal.throwIfAborted();
    try {
      const { body } = await api.ask<ClusterLifecycle>({ path: lifecyclePath(cluster), signal });
      denials = 0;
      const operation = body.status?.operation;
      if (operation?.id === id) {
        told.changed(operation);
        if (hasEnded(operation)) return body;
      } else if (operation) {
        throw new KubeError(404, {
          reason: 'Gone',
          message: `operation ${operation.id} (${operation.type}) came after ${id}, whose outcome stands in kubectl infra audit ${cluster}`,
        });
      }
    } catch (error) {
      signal.throwIfAborted();
      const passing = error instanceof KubeUnreachableError || (error instanceof KubeError && (error.code >= 500 || error.code === 429));
      const denied = error instanceof KubeError && error.reason !== 'Gone' && ++denials < DENIALS;
      if (!passing && !denied) throw error;
      told.lost(error instanceof Error ? error.message : String(error));
    }
    await pause(POLL_MS, signal);
  }
}

/** `Install 4/12`. */
export function phaseText(operation: LifecycleOperation): string {
  const done = operation.steps.filter(({ state }) => state === 'Done' || state === 'Skipped').length;
  return operation.phase === 'Undoing' ? `${operation.type} undone` : `${operation.type} ${done}/${operation.steps.length}`;
}

/** The step that runs. */
export const stepText = ({ steps }: LifecycleOperation): string =>
  steps.find(({ state }) => state === 'Running' || state === 'Undoing')?.name ?? '';
