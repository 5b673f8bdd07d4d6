import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { ClusterSpec, ClusterType, LifecycleOperation } from '../../kube/lifecycle.ts';
import type { LifecycleService, Requester } from './api/service.ts';
import type { ArtifactSource } from './artifacts/source.ts';
import { openAuditLog } from './audit/audit-log.ts';
import { validateUpgrade } from './distributions/common/versions.ts';
import type { Distribution, Observation } from './distributions/distribution.ts';
import type { Machine } from './machine/machine.ts';
import type { LifecycleMetrics } from './metrics.ts';
import { operationManager } from './operations/manager.ts';
import { certificateReconciler } from './reconcilers/certificates.ts';
import { statusReconciler } from './reconcilers/cluster-status.ts';
import { driftReconciler } from './reconcilers/drift.ts';
import type { Drift } from './reconcilers/find-drift.ts';
import { type Loops, reconcilerLoops } from './reconcilers/loops.ts';
import { operations } from './service/operations.ts';
import { lifecycleService } from './service/service.ts';
import { stepsOf, strictly } from './service/steps.ts';
import { agentCluster } from './service/view.ts';
import { secretFiles } from './spec/secrets.ts';
import { openState } from './state/state.ts';

export type LifecycleSettings = {
  /** Where binaries and images come from unless the spec says: a folder, an https URL, or '' for the official hosts. */
  artifacts: string;
  renewBeforeMs: number;
  /** Whether the control plane is upgraded when somebody upgraded the kubelet by hand. */
  followKubelet: boolean;
  statusIntervalMs: number;
  certificateIntervalMs?: number;
  driftIntervalMs?: number;
};

/** The lifecycle of the cluster on this machine, running. */
export type Lifecycle = {
  service: LifecycleService;
  /** Kubeconfig of the administrator of the cluster that is there; undefined without one, or while it is made or removed. */
  kubeconfigPath(): string | undefined;
  /** What is wrong with the lifecycle itself, in words; undefined when nothing is. */
  problem(): string | undefined;
  clusterType(): string;
  version(): string;
  stop(): Promise<void>;
};

const AGENT = 'fairlead-agent';
const CERTIFICATE_MS = 10 * 60_000;
const DRIFT_MS = 5 * 60_000;
/** After a try to follow the kubelet that failed. */
const FOLLOW_RETRY_MS = 3_600_000;

/** Takes up what was there, a broken-off operation too. Rejects when the state cannot be read, or is not what the agent wrote. */
export async function startLifecycle(given: {
  stateDir: string;
  machine: Machine;
  distributions: (type: ClusterType) => Distribution | undefined;
  /** A source of artifacts; asked for once for each place. */
  artifacts: (source: string) => ArtifactSource;
  settings: LifecycleSettings;
  metrics: LifecycleMetrics;
  onError: (error: unknown) => void;
  /** Tells how an operation ended. */
  onEnd?: (operation: LifecycleOperation) => void;
  now?: () => Date;
}): Promise<Lifecycle> {
  const { stateDir, machine, settings, metrics, onError, now = () => new Date() } = given;
  const distributions = strictly(given.distributions);
  const folder = join(stateDir, 'lifecycle');
  const state = await openState(folder);
  const audit = await openAuditLog(join(folder, 'audit'), now);
  const secrets = secretFiles(join(folder, 'secrets'));
  let passwords = await secrets.values();
  const { bootID } = await machine.facts();
  let observation: Observation | undefined;
  let drift: readonly Drift[] = [];
  let loops: Loops | undefined;

  const source = chosenSource(given.artifacts, settings.artifacts);
  const manager = operationManager({
    stateDir,
    machine,
    steps(request) {
      source.choose(request.spec);
      return stepsOf(request, distributions, () => manager.written());
    },
    artifacts: source,
    onError,
    now,
    secrets: () => passwords,
  });
  metrics.watch({
    auditEntries: () => audit.entries(),
    auditBroken: () => audit.problem() !== undefined,
    drifted: () => drift.length,
    ready: () => (observation ? observation.nodeReady && observation.controlPlaneReady : undefined),
  });
  const begun = operations({
    manager,
    audit,
    state,
    secrets,
    now,
    async secretsChanged() {
      passwords = await secrets.values();
    },
    ended(operation) {
      metrics.operation(operation);
      given.onEnd?.(operation);
      files.forget();
      // The operation is over for the manager only after this.
      setImmediate(() => {
        for (const { name } of loops?.status() ?? []) loops?.poke(name);
      });
    },
  });
  const view = () => agentCluster(state.get(), manager.last(), { observation, drift, bootID, busy: manager.busy() });
  const service = lifecycleService({
    ...{ machine, distributions, manager, operations: begun, audit, state, view, now },
    reconcilers: () => loops?.status() ?? [],
  });
  const self = (): { requester: Requester; dryRun: boolean } => ({ requester: { user: AGENT, auditID: randomUUID() }, dryRun: false });

  let followed = { version: '', at: Number.NEGATIVE_INFINITY };
  async function followKubelet(spec: ClusterSpec, version: string): Promise<void> {
    if (!settings.followKubelet || validateUpgrade(spec.version ?? '', version).length > 0) return;
    if (followed.version === version && now().getTime() - followed.at < FOLLOW_RETRY_MS) return;
    followed = { version, at: now().getTime() };
    await service.upgrade({ spec: { version } }, self());
  }

  const files = driftReconciler({
    everyMs: settings.driftIntervalMs ?? DRIFT_MS,
    ...{ state, machine, now },
    written: () => manager.written(),
    seen(found) {
      drift = found;
    },
  });

  await manager.start();
  await endWhatNeverBegan();
  loops = reconcilerLoops(
    [
      statusReconciler({
        everyMs: settings.statusIntervalMs,
        ...{ state, now },
        busy: () => begun.busy(),
        observe: (spec, signal) => distributions(spec.clusterType).observe(machine, spec, signal),
        seen(found) {
          observation = found;
        },
        async gone(spec) {
          const { requester } = self();
          const common = {
            clusterType: spec.clusterType,
            currentVersion: spec.version ?? '',
            requestedBy: AGENT,
            auditID: requester.auditID,
            operationID: '',
          };
          const message = 'the cluster was removed from the machine without this agent';
          await audit.append({
            operation: 'Reset',
            Status: 'Completed',
            reason: 'RemovedByHand',
            message,
            lastExecuted: now().toISOString(),
            ...common,
          });
        },
        kubeletAhead: followKubelet,
      }),
      certificateReconciler({
        everyMs: settings.certificateIntervalMs ?? CERTIFICATE_MS,
        thresholdMs: settings.renewBeforeMs,
        ...{ state, now },
        certificates: (spec) => distributions(spec.clusterType).certificates(machine),
        seen: (found) => metrics.certificates(found),
        async renew() {
          await service.rotateCertificates(self());
        },
      }),
      files,
    ],
    { busy: () => begun.busy(), onError },
  );

  /** The agent died, or the disk was full, between the entry in the history, the wish, and the begin of what they stand for. Either may be there without the other. */
  async function endWhatNeverBegan(): Promise<void> {
    const open = audit.unfinished();
    if (open && manager.last()?.auditID !== open.auditID) {
      const { operation, clusterType, currentVersion, requestedBy, auditID } = open;
      const ending = { operation, clusterType, currentVersion, requestedBy, auditID, operationID: '', lastExecuted: now().toISOString() };
      await audit
        .append({ ...ending, Status: 'Failed', reason: 'NotBegun', message: 'the agent ended before the operation began' })
        .catch(onError);
    }
    // The end of an operation that is taken up again needs its wish, and clears it.
    if (state.get().wish && !manager.busy()) await state.change({ wish: undefined }).catch(onError);
  }

  return {
    service,
    kubeconfigPath() {
      const { spec, installed } = state.get();
      return installed && spec ? distributions(spec.clusterType).kubeconfigPath : undefined;
    },
    problem: () => audit.problem(),
    clusterType: () => state.get().spec?.clusterType ?? '',
    version: () => state.get().spec?.version ?? '',
    async stop() {
      await loops?.stop();
      await manager.stop();
      await audit.close();
    },
  };
}

/** The source that the spec of the running operation names, or else the agent's. */
function chosenSource(open: (source: string) => ArtifactSource, preset: string): ArtifactSource & { choose(spec: ClusterSpec): void } {
  let place = preset;
  let current = open(preset);
  return {
    choose({ artifacts }) {
      const wanted = artifacts?.source || preset;
      if (wanted === place) return;
      place = wanted;
      current = open(wanted);
    },
    refresh: () => current.refresh(),
    list: (prefix) => current.list(prefix),
    fetch: (relative, to, mode, signal) => current.fetch(relative, to, mode, signal),
  };
}
