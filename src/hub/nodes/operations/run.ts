import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../../../kube/client.ts';
import { KubeError, KubeUnreachableError } from '../../../kube/errors.ts';
import type { EventRecorder } from '../../../kube/events.ts';
import type { Leadership } from '../../../kube/leader-election.ts';
import { LAST_RESTART, RUNNING_OPERATION } from '../annotations.ts';
import { type Cloud, CloudError, type PowerState } from '../clouds/cloud.ts';
import { type InstanceRef, type NodeIdentity, ProviderIDError } from '../clouds/provider-id.ts';
import { evaluate } from '../guards/evaluate.ts';
import type { Guard } from '../guards/guard.ts';
import type { NodeMetrics } from '../metrics.ts';
import type { NodeDirectory } from '../node-directory.ts';
import type { Phase } from '../schema.ts';
import type { NodeSettings } from '../settings.ts';
import { type CallAction, callCloud, OperationError } from './cloud-call.ts';
import { annotateNode, cordon, uncordon } from './cordon.ts';
import { drainNode } from './drain.ts';
import { catchUp, currentBoot } from './fresh-node.ts';
import type { Ledger } from './ledger.ts';
import { isAbsent, lockNode, MEDIK8S_NAMESPACE, unlockNode } from './node-lock.ts';
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

/** The written intent of a cloud call may be this old when its bytes leave. Shorter than any lease, so a successor's evidence wait outlasts it. */
const FENCE_MS = 2_000;
const POLL_MS = 250;
const DESCRIBE_MS = 5_000;
/** An operation that was taken over gets at least this long, whatever the clocks of the replicas say. */
const MIN_LEFT_MS = 60_000;
const LOCK_WAIT_MS = 30_000;

/** Which phases come before which; resuming never goes back. */
const RANK: Record<Phase, number> = {
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

/** Runs an operation from wherever it stands to its end. Rejects with FencedError when this replica may not go on; then another one will. */
export async function runOperation(record: OperationRecord, leadership: Leadership, deps: RunDependencies): Promise<void> {
  const { name } = record.operation.metadata;
  const { spec } = record.operation;
  const { client, directory, settings } = deps;
  const node = spec.nodeName;

  const pause = async (ms: number) => {
    await sleep(ms, undefined, { signal: leadership.signal }).catch(() => {
      throw new FencedError('leadership is lost');
    });
    if (record.status.cancelRequested && !record.status.calls?.length) throw new CancelledError(record.status.cancelRequested);
  };

  /** Does `work` again while the API server is away or in trouble. */
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

  async function lock(): Promise<void> {
    const began = performance.now();
    const seconds = Math.ceil(
      (timeoutOf(spec.drain ? (spec.drainTimeoutSeconds ?? 0) : 0, settings.drainTimeoutMs) +
        timeoutOf(spec.timeoutSeconds, settings.operationTimeoutMs)) /
        1000,
    );
    for (;;) {
      const holder =
        (await patiently(() => lockNode(client, settings.namespace, node, name, seconds))) ??
        (settings.medik8sLeases
          ? await patiently(() => lockNode(client, MEDIK8S_NAMESPACE, node, name, seconds).catch(absentIsFree))
          : undefined);
      if (!holder) return;
      if (performance.now() - began > LOCK_WAIT_MS) throw new OperationError('NodeLocked', `${holder} holds the Lease of the node`);
      await pause(1_000);
    }
  }

  async function drain(): Promise<void> {
    if (!spec.drain || RANK[record.status.phase] > RANK.Draining) return;
    await enter('Draining', 'cordoning the node and evicting its pods', true);
    const ours = await patiently(() => cordon(client, node, name));
    await record.save((status) => ({ ...status, unschedulableBefore: !ours, cordonedByOperation: ours }), { cancellable: true });
    const began = performance.now();
    const limit = timeoutOf(spec.drainTimeoutSeconds, settings.drainTimeoutMs);
    await drainNode({
      client,
      nodeName: node,
      options: {
        ignoreDaemonSets: spec.ignoreDaemonSets ?? true,
        deleteEmptyDirData: spec.deleteEmptyDirData ?? false,
        evictUnmanaged: spec.evictUnmanaged ?? false,
        disableEviction: spec.disableEviction ?? false,
        podSelector: spec.podSelector,
        gracePeriodSeconds: spec.gracePeriodSeconds ?? -1,
        skipWaitForDeleteTimeoutSeconds: spec.skipWaitForDeleteTimeoutSeconds ?? 0,
      },
      leftMs: () => limit - (performance.now() - began),
      pause,
      progress: (podsToEvict, podsEvicted) =>
        record.save((status) => ({ ...status, podsToEvict, podsEvicted, message: `${podsEvicted} of ${podsToEvict} pods evicted` }), {
          cancellable: true,
        }),
    });
    await recheck();
    // Somebody may have uncordoned the node while its pods went; new ones may have come.
    if (ours && !(await patiently(() => cordon(client, node, name))))
      throw new OperationError('CordonLost', 'the node was cordoned by somebody else while it was drained');
  }

  /** What guards protect may have changed while pods were evicted. */
  async function recheck(): Promise<void> {
    const facts = directory.get(node);
    if (!facts) return;
    const active = deps.ledger.active().filter((other) => other.name !== name);
    const again = deps.guards.filter((guard) => guard.recheck);
    const { refused } = await evaluate(
      again,
      { node: facts, spec, nodes: () => directory.facts(), active, now: new Date() },
      spec.force ?? false,
    );
    const first = refused[0];
    if (first) throw new OperationError('GuardRefused', `after draining, guard ${first.guard} refuses: ${first.message}`);
  }

  /** Milliseconds that the operation may still take, by the monotonic clock of this replica. */
  function deadline(): () => number {
    const limit = timeoutOf(spec.timeoutSeconds, settings.operationTimeoutMs);
    const entered = record.status.history?.find((entry) => RANK[entry.phase] >= RANK.Stopping)?.time;
    const spent = entered ? Math.min(Math.max(0, Date.now() - Date.parse(entered)), limit) : 0;
    const left = spent > 0 ? Math.max(limit - spent, Math.min(MIN_LEFT_MS, limit)) : limit;
    const began = performance.now();
    return () => left - (performance.now() - began);
  }

  async function act(): Promise<void> {
    const { cloud, ref } = deps.connect(nodeIdentity());
    const admitted = record.status.machine;
    if (admitted && (admitted.instanceID !== ref.instanceID || admitted.region !== ref.region)) {
      throw new OperationError(
        'MachineChanged',
        `the node is instance ${ref.instanceID} now, but the operation was admitted for ${admitted.instanceID}`,
      );
    }
    const leftMs = deadline();
    const signal = AbortSignal.timeout(Math.max(Math.ceil(leftMs()), 1));

    const gone = () => new OperationError('MachineGone', `the cloud has no instance ${ref.instanceID} any more`);
    const power = async (): Promise<PowerState> => {
      try {
        const limit = Math.max(1, Math.min(15_000, Math.ceil(leftMs())));
        return (await cloud.describe(ref, { signal: AbortSignal.timeout(limit) })).powerState;
      } catch (error) {
        if (error instanceof CloudError && error.kind === 'NotFound') return 'Terminated';
        if (error instanceof CloudError) return 'Unknown';
        throw error;
      }
    };
    const powered = async (wanted: PowerState, timeoutReason: string) => {
      for (let last: PowerState = 'Unknown'; ; ) {
        last = await power();
        if (last === wanted) return;
        if (last === 'Terminated') throw gone();
        if (leftMs() <= 0) throw new OperationError(timeoutReason, `the cloud says ${last}, not ${wanted}, after the timeout`);
        await pause(Math.min(DESCRIBE_MS, Math.max(leftMs(), POLL_MS), 1_000));
      }
    };
    const call = (action: CallAction, happened: () => Promise<boolean>) =>
      callCloud({
        record,
        cloud,
        ref,
        action,
        holds: leadership.holds,
        turn: deps.cloudTurn,
        fenceMs: FENCE_MS,
        async prepare() {
          if ((await power()) === 'Terminated') throw gone();
          await noteBoot();
        },
        happened,
        // A node that was Ready before the call and is not any more is going down or coming up. One that was not Ready before tells nothing.
        underWay: () => action.startsWith('Restart') && record.status.readyBefore === true && directory.get(node)?.ready !== 'True',
        evidenceMs: settings.evidenceMs,
        pollMs: POLL_MS,
        pause,
        leftMs,
        signal,
      });
    await catchUp(client, directory, node, { patiently, pause, leftMs });
    /** The boot that the call is to end. The one at admission may be over by now: the node booted by itself, or while it was drained. */
    const noteBoot = async () => {
      if (record.status.calls?.length) return;
      const { bootID, ready: readyBefore } = await patiently(() => currentBoot(client, node));
      const bootIDBefore = bootID || record.status.bootIDBefore;
      if (bootIDBefore === record.status.bootIDBefore && readyBefore === record.status.readyBefore) return;
      await record.save((status) => ({ ...status, ...(bootIDBefore !== undefined && { bootIDBefore }), readyBefore }), {
        cancellable: true,
      });
      await catchUp(client, directory, node, { patiently, pause, leftMs });
    };
    const rebooted = async () => {
      const facts = directory.get(node);
      const before = record.status.bootIDBefore;
      return facts !== undefined && before !== undefined && facts.bootID !== '' && facts.bootID !== before;
    };

    const mode = spec.hard ? 'Hard' : 'Soft';
    const viaStop = spec.action === 'Restart' && spec.hard && !cloud.hardRestart;
    if (spec.action === 'Restart' && !viaStop) {
      await enter('Restarting', `asking ${cloud.name} to restart ${ref.instanceID}`, true);
      if (record.status.phase === 'Restarting') await call(`Restart${mode}`, rebooted);
    }
    if (spec.action === 'Stop' || viaStop) {
      await enter('Stopping', `asking ${cloud.name} to stop ${ref.instanceID}`, true);
      if (record.status.phase === 'Stopping') {
        await call(`Stop${mode}`, async () => ['Stopping', 'Stopped'].includes(await power()));
        await powered('Stopped', 'StopTimeout');
      }
    }
    if (spec.action === 'Start' || viaStop) {
      if (
        spec.action === 'Start' &&
        record.status.phase === 'Pending' &&
        (await power()) === 'Running' &&
        directory.get(node)?.ready === 'True'
      )
        return;
      await enter('Starting', `asking ${cloud.name} to start ${ref.instanceID}`, !viaStop);
      if (record.status.phase === 'Starting') {
        await call('Start', async () => ['Starting', 'Running'].includes(await power()));
        await powered('Running', 'StartTimeout');
      }
    }
    if (spec.action === 'Stop') return;
    await enter('WaitingForReady', 'waiting until the node reports a new boot and is Ready');
    await ready(leftMs, power);
  }

  /** Done means: a new boot id, and Ready. A start of a machine whose last boot is unknown is done when it is Ready. */
  async function ready(leftMs: () => number, power: () => Promise<PowerState>): Promise<void> {
    for (let asked = performance.now(); ; ) {
      const facts = directory.get(node);
      const before = record.status.bootIDBefore ?? '';
      const booted = facts !== undefined && facts.bootID !== '' && (facts.bootID !== before || (spec.action === 'Start' && before === ''));
      if (booted && facts.ready === 'True') return;
      if (leftMs() <= 0) {
        if (!facts) throw new OperationError('NodeGone', 'the Node object is gone and has not come back in time');
        if (!booted)
          throw new OperationError('BootIDUnchanged', 'the cloud accepted the call, but the node has not reported a new boot in time');
        throw new OperationError('NodeNotReady', 'the node has booted but was not Ready in time');
      }
      if (performance.now() - asked > DESCRIBE_MS * 3) {
        asked = performance.now();
        if ((await power()) === 'Terminated') throw new OperationError('MachineGone', 'the cloud has no such instance any more');
      }
      await pause(POLL_MS);
    }
  }

  function nodeIdentity() {
    const facts = directory.get(node);
    if (facts) return facts;
    throw new OperationError('NodeGone', 'the Node object is gone');
  }

  /** Puts everything back that the operation holds; safe to do twice. */
  async function release(): Promise<void> {
    if (spec.drain) await patiently(() => uncordon(client, node, name));
    const touched = record.status.calls?.some((call) => call.state !== 'Refused') && spec.action !== 'Start';
    const last = { time: new Date().toISOString(), operation: name, requestedBy: spec.requestedBy.username };
    await patiently(() =>
      annotateNode(client, node, { [RUNNING_OPERATION]: null, ...(touched && { [LAST_RESTART]: JSON.stringify(last) }) }),
    );
    await patiently(() => unlockNode(client, settings.namespace, node, name));
    if (settings.medik8sLeases) await patiently(() => unlockNode(client, MEDIK8S_NAMESPACE, node, name).catch(absentIsFree));
  }

  async function finish(phase: 'Succeeded' | 'Failed' | 'Cancelled', reason: string, message: string): Promise<void> {
    await release();
    const bootIDAfter = directory.get(node)?.bootID;
    // Before the end can be seen: who waits for it and asks for the next node must not be refused because of this one.
    await patiently(() => deps.ledger.remove([name]));
    await record.enter(phase, message, { reason, ...(bootIDAfter && { bootIDAfter }), ...(spec.drain && { cordonedByOperation: false }) });
    announce(phase, reason, message);
  }

  function announce(phase: string, reason: string, message: string): void {
    const facts = directory.get(node);
    const note = `${name}: ${message} (requested by ${spec.requestedBy.username}${spec.reason ? `: ${spec.reason}` : ''}${spec.auditID ? `; Audit-ID ${spec.auditID}` : ''})`;
    deps.events({
      regarding: { apiVersion: 'v1', kind: 'Node', name: node, ...(facts && { uid: facts.uid }) },
      type: phase === 'Failed' ? 'Warning' : 'Normal',
      reason: `${spec.action}${phase}`,
      action: spec.action,
      note: reason ? `${note} ${reason}` : note,
    });
    if (phase === 'Started') return;
    const cloud = record.status.machine?.cloud ?? 'unknown';
    deps.metrics.operations.inc({ action: spec.action, cloud, result: phase });
    const started = Date.parse(record.status.startTime ?? '');
    if (!Number.isNaN(started))
      deps.metrics.duration.observe({ action: spec.action, result: phase }, Math.max(0, (Date.now() - started) / 1000));
  }

  /** What became of it. Only FencedError leaves: then another replica goes on from what is written. */
  async function outcome(): Promise<Parameters<typeof finish>> {
    try {
      await lock();
      await patiently(() => annotateNode(client, node, { [RUNNING_OPERATION]: name }));
      if (record.status.phase === 'Pending') {
        announce('Started', '', `${spec.action.toLowerCase()} of ${record.status.machine?.instanceID} begins`);
      }
      await drain();
      await act();
      return ['Succeeded', 'Done', doneMessage(record)];
    } catch (error) {
      if (error instanceof FencedError) throw error;
      if (error instanceof CancelledError) return ['Cancelled', 'Cancelled', `cancelled by ${error.message} before the cloud was called`];
      if (error instanceof OperationError) return ['Failed', error.reason, error.message];
      if (error instanceof ProviderIDError || error instanceof KubeError) return ['Failed', 'Error', error.message];
      // Nobody foresaw it: its text is for the log.
      const id = randomUUID();
      deps.onError(new Error(`operation ${name}, id ${id}: ${error instanceof Error ? error.message : String(error)}`, { cause: error }));
      return ['Failed', 'InternalError', `an internal error occurred; the log of the hub has it under id ${id}`];
    }
  }

  await finish(...(await outcome()));
}

const timeoutOf = (seconds: number | undefined, fallbackMs: number) => (seconds ? seconds * 1000 : fallbackMs);

function absentIsFree(error: unknown): undefined {
  if (isAbsent(error)) return undefined;
  throw error;
}

function doneMessage(record: OperationRecord): string {
  const { action } = record.operation.spec;
  if (action === 'Stop') return 'the cloud says that the machine is stopped';
  if (action === 'Start' && !record.status.calls?.length) return 'the machine was running already';
  return 'the node has booted anew and is Ready';
}
