import type { AuditContent } from '../../../kube/audit-chain.ts';
import type { AgentCluster, ClusterSpec, OPERATION_TYPES, OperationPlan } from '../../../kube/lifecycle.ts';
import { conflict, notFound } from '../../../kube/status.ts';
import type { Change, LifecycleService, Requester } from '../api/service.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Machine } from '../machine/machine.ts';
import type { OperationManager } from '../operations/request.ts';
import { CLUSTER, readBody } from '../spec/read-body.ts';
import type { StateFile } from '../state/state.ts';
import { judgeCreate, judgeMetadata, judgePatch, judgeUpgrade } from './judge.ts';
import type { Operations, Wish } from './operations.ts';
import type { Distributions } from './steps.ts';

/** What stands for a machine without a cluster where a spec is needed. */
const NO_CLUSTER: ClusterSpec = { clusterType: 'kubeadm' };

/** The calls of the API: judges what was asked, and has it begun. */
export function lifecycleService(given: {
  machine: Machine;
  distributions: Distributions;
  manager: OperationManager;
  operations: Operations;
  audit: AuditLog;
  state: StateFile;
  view: () => AgentCluster;
  reconcilers: () => { name: string; status: string }[];
  now: () => Date;
}): LifecycleService {
  const { machine, distributions, manager, operations, audit, state, view, now } = given;

  /** The spec of the cluster that is there. Rejects with a 409 that says what is there instead; the phase stays what it was. */
  async function clusterFor(what: string): Promise<ClusterSpec> {
    await operations.idle();
    const { spec, installed, phase } = state.get();
    if (!installed || !spec) throw conflict(CLUSTER, `there is no cluster to ${what}: the phase is ${phase}; create one first`);
    return spec;
  }

  async function begin(
    wish: Omit<Wish, 'metadata'> & { metadata?: Record<string, string> },
    change: Change,
  ): Promise<AgentCluster | OperationPlan> {
    const begun = await operations.begin({ ...wish, metadata: wish.metadata ?? state.get().metadata }, change);
    return 'actions' in begun ? begun : view();
  }

  /** One entry in the history for what is no operation. Rejects with a 503, and then it must not be done. */
  async function record(requester: Requester, more: Pick<AuditContent, 'operation' | 'reason'>): Promise<void> {
    const { spec } = state.get();
    await audit.append({
      ...more,
      Status: 'Completed',
      message: '',
      lastExecuted: now().toISOString(),
      clusterType: spec?.clusterType ?? '',
      currentVersion: spec?.version ?? '',
      requestedBy: requester.user,
      auditID: requester.auditID,
      operationID: '',
    });
  }

  return {
    get: async () => view(),

    async create(body, change) {
      const { spec: asked, metadata } = readBody(body);
      await operations.idle();
      const { installed, spec: present } = state.get();
      if (installed)
        throw conflict(
          CLUSTER,
          `this machine has a cluster already, ${present?.clusterName ?? 'without a name'} (${present?.version ?? 'of unknown version'}): delete it first`,
        );
      const spec = judgeCreate(asked, distributions, await machine.facts());
      return await begin({ type: 'Install', spec, before: undefined, metadata }, change);
    },

    async upgrade(body, change) {
      const { spec: asked, metadata } = readBody(body);
      const before = await clusterFor('upgrade');
      judgeMetadata(metadata, state.get().metadata);
      const spec = judgeUpgrade(asked, before, distributions, await machine.facts());
      return spec ? await begin({ type: 'Upgrade', spec, before }, change) : unchanged('Upgrade', change);
    },

    async patch(body, change) {
      const { spec: asked, metadata } = readBody(body);
      const before = await clusterFor('patch');
      judgeMetadata(metadata, state.get().metadata);
      const spec = judgePatch(asked, before, distributions, await machine.facts());
      return spec ? await begin({ type: 'Patch', spec, before }, change) : unchanged('Patch', change);
    },

    async delete(change) {
      await operations.idle();
      const { spec } = state.get();
      // Also what an installation left behind that could not be taken back, and what somebody removed by hand.
      if (!spec) throw notFound({ ...CLUSTER, name: 'cluster' });
      return await begin({ type: 'Delete', spec, before: spec }, change);
    },

    async rotateCertificates(change) {
      const spec = await clusterFor('renew the certificates of');
      return await begin({ type: 'RotateCertificates', spec, before: spec }, change);
    },

    async repair(change) {
      const spec = await clusterFor('repair');
      return await begin({ type: 'Repair', spec, before: spec }, change);
    },

    async restart(change) {
      await operations.idle();
      const { spec, installed } = state.get();
      const before = installed ? spec : undefined;
      return await begin({ type: 'Restart', spec: before ?? NO_CLUSTER, before }, change);
    },

    async certificates() {
      const { spec, installed } = state.get();
      if (!installed || !spec) throw notFound({ ...CLUSTER, name: 'cluster' });
      return { CertsInfo: await distributions(spec.clusterType).certificates(machine) };
    },

    async kubeconfig(requester) {
      const { spec, installed } = state.get();
      const distribution = installed && spec ? distributions(spec.clusterType) : undefined;
      const text = distribution && (await machine.read(distribution.kubeconfigPath));
      if (!distribution || !spec || text === undefined) throw notFound({ ...CLUSTER, name: 'kubeconfig' });
      const contents = distribution.kubeconfigElsewhere?.(text, spec, await machine.facts()) ?? text;
      // Whoever has it is the administrator of the cluster: it does not leave without a trace.
      await record(requester, { operation: 'Kubeconfig', reason: 'Read' });
      return { contents };
    },

    audit: () => audit.history(),
    reconcilers: async () => ({ reconciler: given.reconcilers() }),
    log: (options) => manager.log(options),
  };

  function unchanged(operation: (typeof OPERATION_TYPES)[number], { dryRun }: Change): AgentCluster | OperationPlan {
    const cluster = view();
    return dryRun ? { apiVersion: cluster.apiVersion, kind: 'OperationPlan', operation, actions: [] } : cluster;
  }
}
