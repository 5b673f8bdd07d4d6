import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../../../kube/client.ts';
import { KubeError, KubeUnreachableError } from '../../../kube/errors.ts';
import type { EventRecorder } from '../../../kube/events.ts';
import type { Leadership } from '../../../kube/leader-election.ts';
import type { Cloud } from '../clouds/cloud.ts';
import type { InstanceRef, NodeIdentity } from '../clouds/provider-id.ts';
import type { Guard } from '../guards/guard.ts';
import type { NodeMetrics } from '../metrics.ts';
import type { NodeDirectory } from '../node-directory.ts';
import type { NodeOperationSpec, Phase } from '../schema.ts';
import type { NodeSettings } from '../settings.ts';
import type { Ledger } from './ledger.ts';
import { CancelledError, FencedError, type OperationRecord } from './record.ts';
import type { Turns } from './turns.ts';

export type RunDependencies = {
  client: KubeClient;
  directory: NodeDirectory;
  ledger: Ledger;
  guards: readonly Guard[];
  /** The cloud and instance behind a node. Throws ProviderIDError. */
  connect: (node: NodeIdentity) => { cloud: Cloud; ref: InstanceRef };
  settings: NodeSettings;
  events: EventRecorder;
  metrics: NodeMetrics;
  /** Calls of clouds take turns. */
  cloudTurn: Turns;
  onError: (error: unknown) => void;
};

/** One operation while this replica runs it: what every step of it needs. */
export type Run = RunDependencies & {
  name: string;
  /** Name of the node. */
  node: string;
  spec: NodeOperationSpec;
  record: OperationRecord;
  leadership: Leadership;
  /** Waits. Throws FencedError when leadership is lost, CancelledError when somebody asked to cancel and the cloud has not been called. */
  pause(ms: number): Promise<void>;
  /** Does `work` again while the API server is away or in trouble. Throws FencedError when leadership is lost. */
  patiently<T>(work: () => Promise<T>): Promise<T>;
  /** Goes on to a phase, unless the operation has been there already. */
  enter(phase: Phase, message: string, cancellable?: boolean): Promise<void>;
};

/** Which phases come before which; resuming never goes back. */
export const RANK: Record<Phase, number> = {
  Pending: 0,
  Draining: 1,
  Stopping: 2,
  Restarting: 2,
  Starting: 3,
  WaitingForReady: 4,
  Succeeded: 5,
  Failed: 5,
  Cancelled: 5,
};

/** A limit in milliseconds: that of the options in seconds, or the default where they say 0 or nothing. */
export const timeoutOf = (seconds: number | undefined, fallbackMs: number): number => (seconds ? seconds * 1000 : fallbackMs);

export function runContext(record: OperationRecord, leadership: Leadership, deps: RunDependencies): Run {
  const pause = async (ms: number) => {
    await sleep(ms, undefined, { signal: leadership.signal }).catch(() => {
      throw new FencedError('leadership is lost');
    });
    if (record.status.cancelRequested && !record.status.calls?.length) throw new CancelledError(record.status.cancelRequested);
  };

  const patiently = async <T>(work: () => Promise<T>): Promise<T> => {
    for (let tries = 0; ; tries++) {
      // A process that was frozen must not go on where it stopped: its successor may have ended the operation.
      if (!leadership.holds()) throw new FencedError('leadership is lost');
      try {
        return await work();
      } catch (error) {
        const passing = error instanceof KubeUnreachableError || (error instanceof KubeError && (error.code >= 500 || error.code === 429));
        if (!passing) throw error;
        await sleep(Math.min(250 * 2 ** tries, 5_000), undefined, { signal: leadership.signal }).catch(() => {
          throw new FencedError('leadership is lost');
        });
      }
    }
  };

  const enter = async (phase: Phase, message: string, cancellable = false) => {
    if (RANK[record.status.phase] >= RANK[phase] && record.status.phase !== 'Pending') return;
    await record.enter(phase, message, {}, { cancellable });
  };

  const { spec, metadata } = record.operation;
  return { ...deps, name: metadata.name, node: spec.nodeName, spec, record, leadership, pause, patiently, enter };
}
