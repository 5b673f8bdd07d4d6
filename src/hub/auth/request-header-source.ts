import type { KubeClient } from '../../kube/client.ts';
import { type Raw, watchCache } from '../../kube/watch-cache.ts';
import { type AuthenticationData, hasValidAnchor, parseRequestHeaderConfig, type RequestHeaderConfig } from './request-header-config.ts';

/** The front proxy configuration as it is now. */
export type RequestHeaderSource = {
  /** undefined: nobody is a front proxy. */
  current(): RequestHeaderConfig | undefined;
  /** What is wrong, for readyz and the log; undefined while all is well. There may be a configuration nevertheless (the last good one). */
  problem(): string | undefined;
  /** Called after each change of `current()`, until the signal is aborted. */
  onChange(listener: (config: RequestHeaderConfig | undefined) => void, signal: AbortSignal): void;
};

export type RequestHeaderSourceOptions = {
  client: KubeClient;
  signal: AbortSignal;
  /** Each new problem once, as text for the log. */
  onProblem?: (problem: string) => void;
};

const NAMESPACE = 'kube-system';
const NAME = 'extension-apiserver-authentication';
const WHERE = `ConfigMap ${NAMESPACE}/${NAME}`;

/**
 * Watches the ConfigMap in which kube-apiserver publishes its front proxy's CA and headers, until the signal is aborted.
 *
 * Absent, forbidden or unreadable at the start, and deleted later: closed. An update that cannot be read keeps the last good configuration as long as one
 * of its CAs is valid: that one was a decision of kube-apiserver, which rewrites the ConfigMap within a minute, whereas a damaged write is not a
 * decision to trust nobody and would take down every request of the cluster to this API. Withdrawing trust takes a readable update or a deletion.
 * Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
 */
export function watchRequestHeaderConfig(options: RequestHeaderSourceOptions): RequestHeaderSource {
  const { signal } = options;
  const listeners = new Set<(config: RequestHeaderConfig | undefined) => void>();
  let config: RequestHeaderConfig | undefined;
  let broken: string | undefined;
  let reported: string | undefined;

  const cache = watchCache<Raw & { data?: AuthenticationData }, AuthenticationData>({
    client: options.client,
    path: `/api/v1/namespaces/${NAMESPACE}/configmaps`,
    fieldSelector: `metadata.name=${NAME}`,
    transform: (raw) => raw.data ?? {},
    signal,
    onError: () => report(),
  });

  const problem = () => {
    if (broken) return broken;
    const failure = cache.failure();
    if (failure) return `${WHERE} cannot be read: ${failure}`;
    return cache.synced() ? undefined : `${WHERE} has not been read yet`;
  };

  function report(): void {
    const now = problem();
    if (now !== undefined && now !== reported) options.onProblem?.(now);
    reported = now;
  }

  function use(next: RequestHeaderConfig | undefined): void {
    const before = config;
    config = next;
    if (before !== next) for (const listener of listeners) listener(next);
  }

  cache.onChange(() => {
    const data = cache.get(NAME);
    if (data === undefined) {
      broken = `${WHERE} does not exist`;
      use(undefined);
    } else {
      try {
        const next = parseRequestHeaderConfig(data);
        broken = undefined;
        use(next);
      } catch (error) {
        broken = `${WHERE}: ${error instanceof Error ? error.message : String(error)}`;
        if (config && !hasValidAnchor(config, new Date())) use(undefined);
      }
    }
    report();
  }, signal);

  return {
    current: () => config,
    problem,
    onChange(listener, until) {
      if (until.aborted) return;
      listeners.add(listener);
      until.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
  };
}
