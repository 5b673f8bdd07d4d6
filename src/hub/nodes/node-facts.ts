import { CORDONED_BY, LAST_RESTART, RUNNING_OPERATION, VETO } from './annotations.ts';
import { API_VERSION, type InfraNode } from './schema.ts';

/** The part of a core Node that this room reads. */
export type CoreNode = {
  metadata: {
    name: string;
    uid: string;
    resourceVersion: string;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec?: { providerID?: string; unschedulable?: boolean };
  status?: { conditions?: { type: string; status: string }[]; nodeInfo?: { bootID?: string } };
};

export type Ready = 'True' | 'False' | 'Unknown';

/** What is kept of a Node: enough for the view, the guards and the operations. */
export type NodeFacts = {
  name: string;
  uid: string;
  resourceVersion: string;
  creationTimestamp: string | undefined;
  labels: Record<string, string>;
  providerID: string;
  unschedulable: boolean;
  ready: Ready;
  bootID: string;
  controlPlane: boolean;
  zone: string;
  operation: string | undefined;
  /** The operation that cordoned it. */
  cordonedBy: string | undefined;
  lastRestart: { time: string; operation?: string; requestedBy?: string } | undefined;
  veto: string | undefined;
};

/** Either says that a node carries a control plane. */
export const CONTROL_PLANE_LABELS = ['node-role.kubernetes.io/control-plane', 'node-role.kubernetes.io/master'];
const ZONE_LABELS = ['topology.kubernetes.io/zone', 'failure-domain.beta.kubernetes.io/zone'];
const NO_LABELS: Record<string, string> = {};

export function nodeFacts(node: CoreNode): NodeFacts {
  const { metadata, spec, status } = node;
  const labels = metadata.labels ?? NO_LABELS;
  const ready = status?.conditions?.find((condition) => condition.type === 'Ready')?.status;
  return {
    name: metadata.name,
    uid: metadata.uid,
    resourceVersion: metadata.resourceVersion,
    creationTimestamp: metadata.creationTimestamp,
    labels,
    providerID: spec?.providerID ?? '',
    unschedulable: spec?.unschedulable ?? false,
    ready: ready === 'True' || ready === 'False' ? ready : 'Unknown',
    bootID: status?.nodeInfo?.bootID ?? '',
    controlPlane: CONTROL_PLANE_LABELS.some((label) => label in labels),
    zone: ZONE_LABELS.map((label) => labels[label]).find(Boolean) ?? '',
    operation: metadata.annotations?.[RUNNING_OPERATION],
    cordonedBy: metadata.annotations?.[CORDONED_BY],
    lastRestart: parseLastRestart(metadata.annotations?.[LAST_RESTART]),
    veto: metadata.annotations?.[VETO],
  };
}

/** An annotation that people can write too: what does not parse is no restart. */
function parseLastRestart(text: string | undefined): NodeFacts['lastRestart'] {
  if (!text) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || !('time' in value) || typeof value.time !== 'string') return undefined;
    if (Number.isNaN(Date.parse(value.time))) return undefined;
    const optional = (name: 'operation' | 'requestedBy') => {
      const field = (value as Record<string, unknown>)[name];
      return typeof field === 'string' ? { [name]: field } : {};
    };
    return { time: value.time, ...optional('operation'), ...optional('requestedBy') };
  } catch {
    return undefined;
  }
}

/** Says which machine a node is, or why operations on it are refused. Never asks the cloud. */
export type MachineOf = (node: Pick<NodeFacts, 'name' | 'providerID' | 'labels'>) => { machine: InfraMachine } | { unsupported: string };
export type InfraMachine = NonNullable<NonNullable<InfraNode['status']>['machine']>;

/** The view of one node. */
export function infraNode(facts: NodeFacts, machineOf: MachineOf): InfraNode {
  const found = machineOf(facts);
  return {
    apiVersion: API_VERSION,
    kind: 'InfraNode',
    metadata: {
      name: facts.name,
      uid: facts.uid,
      resourceVersion: facts.resourceVersion,
      ...(facts.creationTimestamp && { creationTimestamp: facts.creationTimestamp }),
      labels: facts.labels,
    },
    spec: { ...(facts.providerID && { providerID: facts.providerID }), ...(facts.unschedulable && { unschedulable: true }) },
    status: {
      ready: facts.ready,
      ...(facts.bootID && { bootID: facts.bootID }),
      ...(facts.controlPlane && { controlPlane: true }),
      ...found,
      ...(facts.operation && { operation: facts.operation }),
      ...(facts.lastRestart && { lastRestart: facts.lastRestart }),
    },
  };
}
