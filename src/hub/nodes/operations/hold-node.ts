import { LAST_RESTART, RUNNING_OPERATION } from '../annotations.ts';
import { OperationError } from './cloud-call.ts';
import { annotateNode, removeAnnotation, uncordon } from './cordon.ts';
import { isAbsent, lockNode, MEDIK8S_NAMESPACE, unlockNode } from './node-lock.ts';
import { type Run, timeoutOf } from './run-context.ts';

const LOCK_WAIT_MS = 30_000;

/** Takes the Leases of the node and writes the operation on it. Throws OperationError NodeLocked when somebody else keeps one. */
export async function holdNode(run: Run): Promise<void> {
  const { client, node, name, settings, spec, patiently, pause } = run;
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
    if (!holder) break;
    if (performance.now() - began > LOCK_WAIT_MS) throw new OperationError('NodeLocked', `${holder} holds the Lease of the node`);
    await pause(1_000);
  }
  await patiently(() => annotateNode(client, node, { [RUNNING_OPERATION]: name }));
}

/** Puts everything back that the operation holds, and nothing that has become somebody else's; safe to do twice. */
export async function releaseNode(run: Run): Promise<void> {
  const { client, node, name, settings, spec, record, patiently } = run;
  if (spec.drain) await patiently(() => uncordon(client, node, name));
  const restarted = spec.action === 'Restart' && record.status.calls?.some((call) => call.state !== 'Refused');
  if (restarted) {
    const last = { time: new Date().toISOString(), operation: name, requestedBy: spec.requestedBy.username };
    await patiently(() => annotateNode(client, node, { [LAST_RESTART]: JSON.stringify(last) }));
  }
  await patiently(() => removeAnnotation(client, node, RUNNING_OPERATION, name));
  await patiently(() => unlockNode(client, settings.namespace, node, name));
  if (settings.medik8sLeases) await patiently(() => unlockNode(client, MEDIK8S_NAMESPACE, node, name).catch(absentIsFree));
}

function absentIsFree(error: unknown): undefined {
  if (isAbsent(error)) return undefined;
  throw error;
}
