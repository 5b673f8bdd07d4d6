import { readFileSync } from 'node:fs';
import type { KubeClient } from '../../kube/client.ts';
import type { KubeAccess } from '../../kube/plain-config.ts';
import { type Raw, watchCache } from '../../kube/watch-cache.ts';

const CONFIG_MAP = 'kube-root-ca.crt';

/** The CA (PEM) in a kubeconfig; undefined when it has none or its file cannot be read. */
export function kubeconfigCA(config: Pick<KubeAccess, 'getCurrentCluster'>): string | undefined {
  const cluster = config.getCurrentCluster();
  if (cluster?.caData) return Buffer.from(cluster.caData, 'base64').toString('utf8');
  if (!cluster?.caFile) return undefined;
  try {
    return readFileSync(cluster.caFile, 'utf8');
  } catch {
    return undefined;
  }
}

/** The CA of the parent's API server as it is now: what kube-controller-manager publishes in every namespace, else the kubeconfig's. */
export function watchParentCA(options: {
  client: KubeClient;
  /** Namespace of the hub. */
  namespace: string;
  config: Pick<KubeAccess, 'getCurrentCluster'>;
  signal: AbortSignal;
  onError: (error: unknown) => void;
}): () => string | undefined {
  const published = watchCache<Raw & { data?: Record<string, string> }, string>({
    client: options.client,
    path: `/api/v1/namespaces/${options.namespace}/configmaps`,
    fieldSelector: `metadata.name=${CONFIG_MAP}`,
    transform: ({ data }) => data?.['ca.crt'] ?? '',
    signal: options.signal,
    onError: options.onError,
  });
  return () => published.get(CONFIG_MAP) || kubeconfigCA(options.config);
}
