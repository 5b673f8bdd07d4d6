import { CloudError, type PowerState } from '../clouds/cloud.ts';
import { type CallAction, callCloud, OperationError } from './cloud-call.ts';
import { catchUp, currentBoot } from './fresh-node.ts';
import { recheckGuards } from './recheck.ts';
import type { Run } from './run-context.ts';
import { deadline, waitReady } from './wait-ready.ts';

/** The written intent of a cloud call may be this old when its bytes leave. Shorter than any lease, so a successor's evidence wait outlasts it. */
const FENCE_MS = 2_000;
const POLL_MS = 250;
const DESCRIBE_MS = 1_000;

/** Does to the machine what was asked for, from wherever the operation stands, and waits until it is done. Throws OperationError. */
export async function actOnMachine(run: Run): Promise<void> {
  const { client, node, spec, record, directory, settings, leadership, patiently, pause, enter } = run;
  const facts = directory.get(node);
  if (!facts) throw new OperationError('NodeGone', 'the Node object is gone');
  const { cloud, ref } = run.connect(facts);
  const admitted = record.status.machine;
  if (admitted && (admitted.instanceID !== ref.instanceID || admitted.region !== ref.region)) {
    throw new OperationError(
      'MachineChanged',
      `the node is instance ${ref.instanceID} now, but the operation was admitted for ${admitted.instanceID}`,
    );
  }
  const leftMs = deadline(run);
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
      await pause(Math.min(DESCRIBE_MS, Math.max(leftMs(), POLL_MS)));
    }
  };
  const call = (action: CallAction, happened: () => Promise<boolean>) =>
    callCloud({
      record,
      cloud,
      ref,
      action,
      holds: leadership.holds,
      turn: run.cloudTurn,
      fenceMs: FENCE_MS,
      async prepare() {
        if ((await power()) === 'Terminated') throw gone();
        await recheckGuards(run, leftMs);
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
  const restart = async () => {
    await enter('Restarting', `asking ${cloud.name} to restart ${ref.instanceID}`, true);
    if (record.status.phase === 'Restarting') await call(`Restart${mode}`, rebooted);
  };
  const stop = async () => {
    await enter('Stopping', `asking ${cloud.name} to stop ${ref.instanceID}`, true);
    if (record.status.phase !== 'Stopping') return;
    await call(`Stop${mode}`, async () => ['Stopping', 'Stopped'].includes(await power()));
    await powered('Stopped', 'StopTimeout');
  };
  const start = async () => {
    await enter('Starting', `asking ${cloud.name} to start ${ref.instanceID}`, !viaStop);
    if (record.status.phase !== 'Starting') return;
    await call('Start', async () => ['Starting', 'Running'].includes(await power()));
    await powered('Running', 'StartTimeout');
  };

  if (spec.action !== 'Restart' && !record.status.calls?.length && (await isDone(run, power))) return;
  if (viaStop) {
    try {
      await stop();
      await start();
    } catch (error) {
      throw saysWhoStarts(error, run);
    }
  } else if (spec.action === 'Restart') await restart();
  else if (spec.action === 'Stop') return await stop();
  else await start();
  await enter('WaitingForReady', 'waiting until the node reports a new boot and is Ready');
  await waitReady(run, leftMs, power);
}

/** Whether the machine is as it shall be, before anything is asked of the cloud. Throws OperationError MachineRunning when a start cannot help. */
async function isDone({ node, spec, directory }: Run, power: () => Promise<PowerState>): Promise<boolean> {
  const state = await power();
  // Some clouds refuse to stop what is stopped.
  if (spec.action === 'Stop') return state === 'Stopped';
  if (state !== 'Running') return false;
  if (directory.get(node)?.ready === 'True') return true;
  // The cloud would take the call and do nothing, and no new boot would ever come.
  throw new OperationError(
    'MachineRunning',
    `the machine is running already, but the node is not Ready: it may be booting; if it stays so, kubectl restart ${node}`,
  );
}

/** A restart by stop and start that ends in between leaves the machine off, and nobody else starts it: the message says how. */
function saysWhoStarts(error: unknown, { node, record }: Run): unknown {
  const calls = record.status.calls ?? [];
  const stopped = calls.some(({ action, state }) => action.startsWith('Stop') && state !== 'Refused');
  const started = calls.some(({ action, state }) => action === 'Start' && state === 'Accepted');
  if (!(error instanceof OperationError) || error.reason === 'MachineGone' || !stopped || started) return error;
  const advice = `the machine stays off until it is started: kubectl infra start ${node}, once kubectl infra instance ${node} says Stopped`;
  return new OperationError(error.reason, `${error.message}; ${advice}`);
}
