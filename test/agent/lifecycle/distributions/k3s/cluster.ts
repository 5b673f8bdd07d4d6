import { artifactSource } from '../../../../../src/agent/lifecycle/artifacts/artifact-source.ts';
import { k3sDistribution } from '../../../../../src/agent/lifecycle/distributions/k3s/k3s.ts';
import type { K3sOptions } from '../../../../../src/agent/lifecycle/distributions/k3s/source.ts';
import { operationManager } from '../../../../../src/agent/lifecycle/operations/manager.ts';
import type { OperationManager, OperationRequest } from '../../../../../src/agent/lifecycle/operations/request.ts';
import type { Step } from '../../../../../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec, LifecycleOperation, OperationType } from '../../../../../src/kube/lifecycle.ts';
import { StatusError } from '../../../../../src/kube/status.ts';
import { k3sSandbox, type Sandbox } from '../../../../endpoints/k3s-stand-in/sandbox.ts';
import { waitUntil } from '../../../../support/wait-until.ts';

export const OLD = 'v1.35.4+k3s1';
export const NEW = 'v1.36.3+k3s1';

function busy(error: unknown): false {
  if (error instanceof StatusError && error.status.code === 409) return false;
  throw error;
}

export type Cluster = {
  sandbox: Sandbox;
  /** The agent's present one. */
  manager(): OperationManager;
  /** A complete spec, with changes. */
  spec(changes?: Partial<ClusterSpec>): Promise<ClusterSpec>;
  /** Does one operation to its end. */
  run(type: OperationType, spec: ClusterSpec, before?: ClusterSpec): Promise<LifecycleOperation>;
  /** Power cut of the machine; the agent starts anew and takes up what was cut. Resolves to how that ends. */
  powerCut(): Promise<LifecycleOperation>;
  close(): Promise<void>;
};

type Options = K3sOptions & { source?: string; around?: (steps: Step[], request: OperationRequest) => Step[] };

/** The engine with the driver of k3s on a sandbox. `around` may change the steps of an operation. */
export async function k3sCluster(options: Options = {}): Promise<Cluster> {
  const sandbox = k3sSandbox([OLD, NEW]);
  const machine = await sandbox.machine();
  const distribution = k3sDistribution(options);
  const stepsOf = ({ type, spec, before }: OperationRequest): Step[] => {
    if (type === 'Install') return distribution.install(spec);
    if (type === 'Upgrade') return distribution.upgrade(spec, before ?? spec);
    if (type === 'Patch') return distribution.patch(spec, before ?? spec);
    return type === 'RotateCertificates' ? distribution.rotate(spec) : distribution.beforeDelete(spec);
  };
  let ended: (operation: LifecycleOperation) => void = () => undefined;
  const nextEnd = () =>
    new Promise<LifecycleOperation>((resolve) => {
      ended = resolve;
    });
  async function startManager(): Promise<OperationManager> {
    const made = operationManager({
      stateDir: sandbox.stateDir,
      machine,
      artifacts: artifactSource(options.source ?? sandbox.artifacts),
      steps: (request) => (options.around ?? ((steps) => steps))(stepsOf(request), request),
      onError: (error) => {
        throw error;
      },
      pollMs: 50,
    });
    made.onEnd(async (_request, operation) => ended(operation));
    await made.start();
    return made;
  }
  let manager = await startManager();
  return {
    sandbox,
    manager: () => manager,
    spec: async (changes = {}) => distribution.defaults({ clusterType: 'k3s', version: OLD, ...changes }, await machine.facts()),
    async run(type, spec, before) {
      const end = nextEnd();
      const begin = () => manager.begin({ type, spec, before, requester: { user: 'alice', auditID: 'a' }, version: spec.version ?? '' });
      // The one before is told to have ended a moment before another may begin.
      await waitUntil(() => begin().then(() => true, busy), `${type} to begin`);
      return await end;
    },
    async powerCut() {
      await manager.stop();
      await sandbox.powerCut();
      const end = nextEnd();
      manager = await startManager();
      return await end;
    },
    async close() {
      await manager.stop();
      machine.close();
      await sandbox.close();
    },
  };
}
