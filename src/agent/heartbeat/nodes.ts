import type { V1Node } from '@kubernetes/client-node';
import type { ManagedClusterStatus } from '../../kube/clusternet.ts';
import type { Raw } from '../../kube/watch-cache.ts';
import { formatBytes, formatCores, parseQuantity } from './quantity.ts';

/** What the heartbeat needs of a Node. Cores and bytes. */
export type NodeSummary = {
  ready: 'True' | 'False' | 'Unknown';
  /** It has no condition Ready at all. */
  lost: boolean;
  allocatable: { cpu: number; memory: number };
  capacity: { cpu: number; memory: number };
};

export type RawNode = Raw & Pick<V1Node, 'status'>;

export function nodeSummary({ status }: RawNode): NodeSummary {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  const amount = (given: Record<string, string> | undefined) => ({
    cpu: parseQuantity(given?.['cpu']) ?? 0,
    memory: parseQuantity(given?.['memory']) ?? 0,
  });
  return {
    ready: ready === 'True' || ready === 'False' ? ready : 'Unknown',
    lost: ready === undefined,
    allocatable: amount(status?.allocatable),
    capacity: amount(status?.capacity),
  };
}

/** Sums over all nodes. A node without any condition Ready counts as lost, as clusternet counts it. */
export function sumNodes(
  nodes: Iterable<NodeSummary>,
): Required<Pick<ManagedClusterStatus, 'nodeStatistics' | 'allocatable' | 'capacity'>> {
  const statistics = { readyNodes: 0, notReadyNodes: 0, unknownNodes: 0, lostNodes: 0 };
  const allocatable = { cpu: 0, memory: 0 };
  const capacity = { cpu: 0, memory: 0 };
  for (const node of nodes) {
    if (node.lost) statistics.lostNodes++;
    else if (node.ready === 'True') statistics.readyNodes++;
    else if (node.ready === 'False') statistics.notReadyNodes++;
    else statistics.unknownNodes++;
    for (const resource of ['cpu', 'memory'] as const) {
      allocatable[resource] += node.allocatable[resource];
      capacity[resource] += node.capacity[resource];
    }
  }
  const quantities = ({ cpu, memory }: typeof capacity) => ({ cpu: formatCores(cpu), memory: formatBytes(memory) });
  return { nodeStatistics: statistics, allocatable: quantities(allocatable), capacity: quantities(capacity) };
}
