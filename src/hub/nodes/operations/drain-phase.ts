import { OperationError } from './cloud-call.ts';
import { cordon } from './cordon.ts';
import { drainNode } from './drain.ts';
import { RANK, type Run, timeoutOf } from './run-context.ts';
import { leftSince } from './wait-ready.ts';

/** Cordons the node and evicts its pods, when that was asked for. Throws OperationError; the cordon is given back when the operation ends. */
export async function drainPhase(run: Run): Promise<void> {
  const { client, node, name, settings, spec, record, patiently, pause, enter } = run;
  if (!spec.drain || RANK[record.status.phase] > RANK.Draining) return;
  await enter('Draining', 'cordoning the node and evicting its pods', true);
  const ours = await patiently(() => cordon(client, node, name));
  await record.save((status) => ({ ...status, unschedulableBefore: !ours, cordonedByOperation: ours }), { cancellable: true });
  const leftMs = leftSince(
    record.status.history?.find(({ phase }) => phase === 'Draining')?.time,
    timeoutOf(spec.drainTimeoutSeconds, settings.drainTimeoutMs),
  );
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
    leftMs,
    pause,
    progress: (podsToEvict, podsEvicted) =>
      record.save((status) => ({ ...status, podsToEvict, podsEvicted, message: `${podsEvicted} of ${podsToEvict} pods evicted` }), {
        cancellable: true,
      }),
  });
  // Somebody may have uncordoned the node while its pods went; new ones may have come.
  if (ours && !(await patiently(() => cordon(client, node, name))))
    throw new OperationError('CordonLost', 'the node was cordoned by somebody else while it was drained');
}
