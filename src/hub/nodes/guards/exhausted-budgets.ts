import type { V1LabelSelector, V1Pod, V1PodDisruptionBudget, V1PodList } from '@kubernetes/client-node';
import type { KubeClient } from '../../../kube/client.ts';
import { type Raw, type WatchCache, watchCache } from '../../../kube/watch-cache.ts';
import type { ExhaustedBudgets } from './disruption-budgets.ts';

type Budget = { namespace: string; name: string; selector: V1LabelSelector | undefined; exhausted: boolean };

/** Budgets are few and cached; pods are asked for only when a budget is exhausted. */
export function exhaustedBudgets(
  client: KubeClient,
  signal: AbortSignal,
  onError: (error: unknown) => void,
): { find: ExhaustedBudgets; cache: WatchCache<Budget> } {
  const cache = watchCache<Raw & V1PodDisruptionBudget, Budget>({
    client,
    path: '/apis/policy/v1/poddisruptionbudgets',
    key: (budget) => `${budget.metadata.namespace}/${budget.metadata.name}`,
    transform: (budget) => ({
      namespace: budget.metadata.namespace ?? '',
      name: budget.metadata.name,
      selector: budget.spec?.selector,
      exhausted: (budget.status?.disruptionsAllowed ?? 0) < 1 && (budget.status?.expectedPods ?? 0) > 0,
    }),
    signal,
    onError,
  });

  const find: ExhaustedBudgets = async (nodeName, drained) => {
    const stale = cache.stale();
    if (stale) throw new Error(`the hub's copy of the disruption budgets ${stale}`);
    const exhausted = [...cache.values()].filter((budget) => budget.exhausted);
    if (exhausted.length === 0) return [];
    const podsOf = async (labelSelector?: string) => {
      const query = { fieldSelector: `spec.nodeName=${nodeName}`, labelSelector };
      return (await client.request<V1PodList>({ path: '/api/v1/pods', query })).items;
    };
    const pods = await podsOf();
    // The API server reads the selector for us, as it will for draining.
    const evicted = new Set(drained ? (await podsOf(drained)).map(({ metadata }) => metadata?.uid) : []);
    const left = pods.filter(({ metadata }) => !evicted.has(metadata?.uid));
    return exhausted.flatMap((budget) => {
      const pod = left.find(
        (item) => item.metadata?.namespace === budget.namespace && isRunning(item) && matches(budget.selector, item.metadata?.labels ?? {}),
      );
      return pod ? [{ namespace: budget.namespace, name: budget.name, pod: pod.metadata?.name ?? '' }] : [];
    });
  };
  return { find, cache };
}

const isRunning = (pod: V1Pod) => pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed';

/** A label selector as PodDisruptionBudgets (policy/v1) have it: absent selects nothing, empty selects everything. */
export function matches(selector: V1LabelSelector | undefined, labels: Record<string, string>): boolean {
  if (!selector) return false;
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) if (labels[key] !== value) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const value = labels[key];
    switch (operator) {
      case 'In':
        return value !== undefined && values.includes(value);
      case 'NotIn':
        return value === undefined || !values.includes(value);
      case 'Exists':
        return value !== undefined;
      case 'DoesNotExist':
        return value === undefined;
      default:
        // An operator that is not known could select anything: it counts as selecting.
        return true;
    }
  });
}
