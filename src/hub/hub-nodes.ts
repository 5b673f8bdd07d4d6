import type { KubeClient } from '../kube/client.ts';
import { type Raw, watchCache } from '../kube/watch-cache.ts';
import type { HubNodes } from './nodes/guards/own-node.ts';

type Conditions = { ready?: boolean | null; serving?: boolean | null };
type EndpointSlice = Raw & { endpoints?: { conditions?: Conditions; nodeName?: string | null }[] | null };

/** Not the node of a replica that does not serve: a node that is lost keeps its endpoint, and is the one to be restarted. Conditions that are absent count as true. */
const nodesOf = ({ endpoints }: EndpointSlice): string[] =>
  (endpoints ?? []).flatMap(({ conditions, nodeName }) =>
    (conditions?.serving ?? conditions?.ready ?? true) && nodeName ? [nodeName] : [],
  );

/**
 * The nodes that the hub runs on, the same whichever replica is asked: those of the serving endpoints of the Service `service`, kept by a watch. This replica's
 * own node (`own`, '' when it is not known) and the leader's count always; they are all that is known out of a cluster, where endpoints name no nodes.
 */
export function watchHubNodes(options: {
  client: KubeClient;
  namespace: string;
  service: string;
  own: string;
  leader: () => string | undefined;
  signal: AbortSignal;
  onError: (error: unknown) => void;
}): HubNodes {
  const { client, namespace, service, own, leader, signal, onError } = options;
  const slices = watchCache<EndpointSlice, string[]>({
    client,
    path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
    labelSelector: `kubernetes.io/service-name=${service}`,
    transform: nodesOf,
    signal,
    onError,
  });
  return () => [...new Set([own, leader() ?? '', ...[...slices.values()].flat()])].filter((name) => name !== '');
}
