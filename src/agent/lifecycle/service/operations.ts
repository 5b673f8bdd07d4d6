import type { AuditContent } from '../../../kube/audit-chain.ts';
import type { ClusterSpec, LifecycleOperation, OperationPlan, OperationType } from '../../../kube/lifecycle.ts';
import { conflict, serviceUnavailable } from '../../../kube/status.ts';
import type { Change } from '../api/service.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { OperationManager, OperationRequest } from '../operations/request.ts';
import { CLUSTER } from '../spec/read-body.ts';
import type { SecretFiles } from '../spec/secrets.ts';
import { conditionsAfter, isRunning, phaseAfter } from '../state/phases.ts';
import { type State, type StateFile, withConditions } from '../state/state.ts';

/** One operation that was asked for, judged and complete. */
export type Wish = { type: OperationType; spec: ClusterSpec; before: ClusterSpec | undefined; metadata: Record<string, string> };

/** Begins operations, and records how they end. */
export type Operations = {
  /** Rejects with StatusError: 409 while another runs, 503 when it cannot be recorded; then nothing was begun. */
  begin(wish: Wish, change: Change): Promise<OperationPlan | LifecycleOperation>;
  /** Rejects with the 409 that names what runs. What has ended and is just being recorded is waited for. */
  idle(): Promise<void>;
  busy(): boolean;
};

/** Names of operations in the audit history: kubeclusteragent's, where it has one. */
const AUDITED: Readonly<Record<OperationType, string>> = {
  Install: 'Install',
  Upgrade: 'Upgrade',
  Patch: 'Patch',
  Delete: 'Reset',
  RotateCertificates: 'Reset Certs',
  Repair: 'Repair',
  Restart: 'Restart',
};

export function operations(given: {
  manager: OperationManager;
  audit: AuditLog;
  state: StateFile;
  secrets: SecretFiles;
  now: () => Date;
  /** After the end of an operation was recorded. */
  ended: (operation: LifecycleOperation) => void;
  /** The passwords that are kept have changed. */
  secretsChanged: () => Promise<void>;
}): Operations {
  const { manager, audit, state, secrets, now } = given;
  let beginning = false;

  function refuseWhileRunning(): void {
    const last = manager.last();
    if (last && isRunning(last)) throw conflict(CLUSTER, describe(last));
    if (beginning) throw conflict(CLUSTER, 'another operation is being begun');
  }
  async function idle(): Promise<void> {
    refuseWhileRunning();
    await soon(manager.settled());
    refuseWhileRunning();
  }

  const entry = (request: OperationRequest, more: Pick<AuditContent, 'Status' | 'reason' | 'message' | 'operationID'>): AuditContent => ({
    operation: AUDITED[request.type],
    ...more,
    lastExecuted: now().toISOString(),
    clusterType: request.spec.clusterType,
    currentVersion: request.version,
    requestedBy: request.requester.user,
    auditID: request.requester.auditID,
  });

  async function dispose(): Promise<void> {
    const { spec, wish } = state.get();
    await secrets.keepOnly([spec, wish?.spec]);
    await given.secretsChanged();
  }

  async function start(wish: Wish, { requester, dryRun }: Change): Promise<OperationPlan | LifecycleOperation> {
    const spec = await recorded(secrets.take(wish.spec, wish.before ?? state.get().spec));
    await given.secretsChanged();
    const request: OperationRequest = { type: wish.type, spec, before: wish.before, requester, version: spec.version ?? '' };
    if (dryRun) return await manager.plan(request);
    await audit.append(entry(request, { Status: 'In Progress', reason: 'Requested', message: '', operationID: '' }));
    try {
      await recorded(state.change({ wish: { type: wish.type, spec, metadata: wish.metadata } }));
      return await manager.begin(request);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      // The disk that is full now may not take these either: then the next start of the agent ends the entry and forgets the wish, which counts for nothing meanwhile.
      await audit.append(entry(request, { Status: 'Failed', reason: 'NotBegun', message, operationID: '' })).catch(() => undefined);
      await state.change({ wish: undefined }).catch(() => undefined);
      throw error;
    }
  }

  // May come again after a crash: each part of it is done when it is not done yet.
  manager.onEnd(async (request, operation) => {
    const succeeded = operation.phase === 'Succeeded';
    if (!audit.ended(operation.id)) {
      const message = operation.message ?? '';
      await audit.append(
        entry(request, {
          Status: succeeded ? 'Completed' : 'Failed',
          reason: succeeded ? `${operation.type}Succeeded` : `${operation.type}Failed`,
          message: operation.nextCommand && !succeeded ? `${message}; next: ${operation.nextCommand}` : message,
          operationID: operation.id,
        }),
      );
    }
    await state.change(after(state.get(), request, operation, now()));
    await dispose();
    given.ended(operation);
  });

  return {
    idle,
    // A wish that could not be taken back counts for nothing: no operation that runs, or is just being recorded, has it.
    busy: () => beginning || isRunning(manager.last()) || (manager.busy() && state.get().wish !== undefined),
    async begin(wish, change) {
      await idle();
      // Nothing may come between these: of several that were asked for at once, one begins.
      refuseWhileRunning();
      refuseIfOutdated(wish, state.get());
      beginning = true;
      try {
        return await start(wish, change);
      } finally {
        // A plan, and what was not begun, leaves no password behind.
        if (change.dryRun || !isRunning(manager.last())) await dispose().catch(() => undefined);
        beginning = false;
      }
    },
  };
}

/** What the state becomes when an operation has ended. The same again when it is repeated. */
function after(state: State, request: OperationRequest, operation: LifecycleOperation, now: Date): Partial<State> {
  const { type } = request;
  const succeeded = operation.phase === 'Succeeded';
  const wish = state.wish?.type === type ? state.wish : undefined;
  // The life of a cluster begins and ends with these: what was said of another one does not count.
  const anew = type === 'Install' || (type === 'Delete' && succeeded);
  const conditions = withConditions(anew ? [] : state.conditions, conditionsAfter(operation), now);
  const common = { phase: phaseAfter(operation, state.phase), conditions, wish: undefined };
  if (type === 'Install') return { ...common, installed: succeeded, spec: request.spec, metadata: wish?.metadata ?? state.metadata };
  if (type === 'Delete') return succeeded ? { ...common, installed: false, spec: undefined, metadata: {} } : common;
  if (succeeded && (type === 'Upgrade' || type === 'Patch')) return { ...common, spec: request.spec };
  return common;
}

function describe({ id, type, requestedBy, startedAt, phase, steps }: LifecycleOperation): string {
  const step = steps.find(({ state }) => state === 'Running' || state === 'Undoing')?.name;
  const who = requestedBy ? ` by ${requestedBy}` : '';
  const where = step ? `, ${phase === 'Undoing' ? 'undoing' : 'at'} step ${step}` : '';
  return `operation ${type} (${id}), asked for${who} at ${startedAt ?? 'an unknown time'}, is running${where}: wait until it has ended`;
}

/** What was judged by a spec that another operation has changed since must be judged anew. */
function refuseIfOutdated({ type, before }: Wish, { spec, installed }: Readonly<State>): void {
  if (type === 'Install' ? installed : before !== undefined && before !== spec) {
    throw conflict(CLUSTER, 'another operation changed the cluster meanwhile: ask again');
  }
}

const SETTLE_MS = 10_000;

/** Rejects with a 503 when it takes too long: a journal that cannot be written is tried again and again. */
async function soon(settled: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(serviceUnavailable('the end of the last operation cannot be written down: is the disk full?')),
    SETTLE_MS,
  );
  await Promise.race([settled, promise]).finally(() => clearTimeout(timer));
}

/** What could not be written down was not begun. */
async function recorded<T>(writing: Promise<T>): Promise<T> {
  try {
    return await writing;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw serviceUnavailable(
      `the state cannot be written: ${why}; nothing was begun. Free space in the state folder, or make it writable, and ask again`,
    );
  }
}
