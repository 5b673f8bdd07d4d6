import type { LabNode } from '../lab/nodes.ts';
import type { KubeRequest } from './kube-gate.ts';

type WrittenStatus = {
  phase: string;
  podsToEvict?: number;
  podsEvicted?: number;
  cordonedByOperation?: boolean;
  calls?: { state: string }[];
};

/** Every write that a draining restart makes at the API server, in order. */
export const writes = [
  'claim',
  'lock',
  'annotate',
  'phase Draining',
  'cordon',
  'cordon noted',
  'eviction planned',
  'evict',
  'eviction noted',
  'phase Restarting',
  'intent of the call',
  'outcome of the call',
  'phase WaitingForReady',
  'uncordon',
  'annotate the end',
  'unlock',
  'ledger',
  'phase Succeeded',
] as const;
export type Write = (typeof writes)[number];

function operationWrite(status: WrittenStatus): Write | undefined {
  switch (status.phase) {
    case 'Pending':
      return 'claim';
    case 'Draining':
      if (status.podsToEvict === undefined) return status.cordonedByOperation === undefined ? 'phase Draining' : 'cordon noted';
      return status.podsEvicted ? 'eviction noted' : 'eviction planned';
    case 'Restarting': {
      const state = status.calls?.at(-1)?.state;
      return state === undefined ? 'phase Restarting' : state === 'Sending' ? 'intent of the call' : 'outcome of the call';
    }
    case 'WaitingForReady':
      return 'phase WaitingForReady';
    case 'Succeeded':
      return 'phase Succeeded';
    default:
      return undefined;
  }
}

/** Names the writes of the restart of one node as they pass. Keep one for each operation: the ledger's write is told by what came before it. */
export function classifier(node: LabNode): (request: KubeRequest) => Write | undefined {
  const prefix = `restart-${node.name}-`;
  let ending = false;
  return ({ method, path, body }) => {
    const last = path.split('/').at(-1) ?? '';
    if (method === 'PUT' && path.includes('/configmaps/') && last.startsWith(prefix)) {
      return operationWrite(JSON.parse(JSON.parse(body).data.status) as WrittenStatus);
    }
    if (method === 'PUT' && last === 'fairlead-node-operations') return ending && !body.includes(prefix) ? 'ledger' : undefined;
    if (method === 'POST' && last === 'leases') return body.includes(`"node-${node.name}"`) ? 'lock' : undefined;
    if (method === 'DELETE' && last === `node-${node.name}`) {
      ending = true;
      return 'unlock';
    }
    if (method === 'PATCH' && path.endsWith(`/nodes/${node.name}`)) {
      if (body.includes('/cordoned-by":null')) return 'uncordon';
      if (body.includes('/cordoned-by"')) return 'cordon';
      return body.includes('/operation":null') ? 'annotate the end' : 'annotate';
    }
    if (method === 'POST' && last === 'eviction') return body.includes(`"pod-of-${node.name}`) ? 'evict' : undefined;
    return undefined;
  };
}
