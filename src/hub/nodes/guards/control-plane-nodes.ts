import type { KubeClient } from '../../../kube/client.ts';
import { CONTROL_PLANE_LABELS, type CoreNode, type NodeFacts, nodeFacts } from '../node-facts.ts';
import type { ControlPlaneNodes } from './control-plane-quorum.ts';

/** The control-plane nodes as the API server has them now: few, rarely asked for, and a quorum is not to be judged by a copy. Throws KubeError. */
export function controlPlaneNodes(client: KubeClient): ControlPlaneNodes {
  return async () => {
    const lists = await Promise.all(
      CONTROL_PLANE_LABELS.map((labelSelector) =>
        client.request<{ items: CoreNode[] }>({ path: '/api/v1/nodes', query: { labelSelector } }),
      ),
    );
    const byName = new Map<string, NodeFacts>();
    for (const { items } of lists) for (const node of items) byName.set(node.metadata.name, nodeFacts(node));
    return [...byName.values()];
  };
}
