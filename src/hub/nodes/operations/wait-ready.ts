import type { PowerState } from '../clouds/cloud.ts';
import { OperationError } from './cloud-call.ts';
import { RANK, type Run, timeoutOf } from './run-context.ts';

const POLL_MS = 250;
const DESCRIBE_MS = 15_000;
/** An operation that was taken over gets at least this long, whatever the clocks of the replicas say. */
const MIN_LEFT_MS = 60_000;

/** Milliseconds that the operation may still take, by the monotonic clock of this replica. */
export function deadline({ spec, settings, record }: Run): () => number {
  const limit = timeoutOf(spec.timeoutSeconds, settings.operationTimeoutMs);
  return leftSince(record.status.history?.find((entry) => RANK[entry.phase] >= RANK.Stopping)?.time, limit);
}

/** What is left of a limit in milliseconds, by the monotonic clock of this replica, for what began at `entered`, maybe in another one; now when absent. */
export function leftSince(entered: string | undefined, limit: number): () => number {
  const spent = entered ? Math.min(Math.max(0, Date.now() - Date.parse(entered)), limit) : 0;
  const left = spent > 0 ? Math.max(limit - spent, Math.min(MIN_LEFT_MS, limit)) : limit;
  const began = performance.now();
  return () => left - (performance.now() - began);
}

/** Done means: a new boot id, and Ready. A start of a machine whose last boot is unknown is done when it is Ready. */
export async function waitReady(run: Run, leftMs: () => number, power: () => Promise<PowerState>): Promise<void> {
  const { node, spec, record, directory, pause } = run;
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
    if (performance.now() - asked > DESCRIBE_MS) {
      asked = performance.now();
      if ((await power()) === 'Terminated') throw new OperationError('MachineGone', 'the cloud has no such instance any more');
    }
    await pause(POLL_MS);
  }
}
