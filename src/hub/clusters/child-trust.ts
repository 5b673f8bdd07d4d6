import type { KubeClient } from '../../kube/client.ts';
import { CLUSTER_ID_LABEL } from '../../kube/clusternet.ts';
import { type Raw, watchCache } from '../../kube/watch-cache.ts';

/** How the hub knows the API server of a child that an agent of clusternet leads to: by a CA (PEM), or, because somebody said so, not at all. */
export type Trust = { ca: string | undefined; insecure: boolean };

export type ChildTrust = {
  of(clusterID: string): Trust;
  /** Tells the cluster id when the answer has changed; undefined when any may have. */
  onChange(listener: (clusterID: string | undefined) => void, signal: AbortSignal): void;
};

const NOTHING: Trust = { ca: undefined, insecure: false };

/**
 * Reads what administrators say in ConfigMaps of the hub's namespace with the label of the cluster: `ca.crt`, or `insecure-skip-tls-verify: "true"`. Not in the ManagedCluster, which
 * agents of clusternet write: they would vouch for themselves. Of two ConfigMaps for one cluster neither counts.
 */
export function childTrust(options: {
  client: KubeClient;
  /** Namespace of the hub. */
  namespace: string;
  signal: AbortSignal;
  onError: (error: unknown) => void;
}): ChildTrust {
  type Said = Trust & { id: string };
  const said = watchCache<Raw & { metadata: { labels?: Record<string, string> }; data?: Record<string, string> }, Said>({
    client: options.client,
    path: `/api/v1/namespaces/${options.namespace}/configmaps`,
    labelSelector: CLUSTER_ID_LABEL,
    transform: ({ metadata, data = {} }) => ({
      id: metadata.labels?.[CLUSTER_ID_LABEL] ?? '',
      ca: data['ca.crt'] || undefined,
      insecure: data['insecure-skip-tls-verify'] === 'true',
    }),
    signal: options.signal,
    onError: options.onError,
  });
  let byID: Map<string, Trust> | undefined;
  const index = () => {
    const made = new Map<string, Trust>();
    for (const { id, ca, insecure } of said.values()) made.set(id, made.has(id) ? NOTHING : { ca, insecure });
    return made;
  };
  said.onChange(() => {
    byID = undefined;
  }, options.signal);
  return {
    of(id) {
      byID ??= index();
      return byID.get(id) ?? NOTHING;
    },
    // One that has gone does not say any more whose it was.
    onChange: (listener, signal) => said.onChange(({ object }) => listener(object?.id), signal),
  };
}

/** Nobody is trusted by name. */
export const NO_TRUST: ChildTrust = { of: () => NOTHING, onChange: () => undefined };
