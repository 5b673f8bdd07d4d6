import { type Guard, pass, refuse, STARTS } from './guard.ts';

/** Asks for PodDisruptionBudgets that allow no disruption now and cover pods on the node; not those pods that the selector `drained` selects. */
export type ExhaustedBudgets = (nodeName: string, drained?: string) => Promise<{ namespace: string; name: string; pod: string }[]>;

/** A restart without draining takes pods down past the eviction API, so their budgets are asked here. With draining the evictions ask, for the pods that are drained. */
export function disruptionBudgets(exhausted: ExhaustedBudgets): Guard {
  return {
    name: 'DisruptionBudgets',
    forceable: true,
    recheck: true,
    async check({ node, spec }) {
      if (spec.action === 'Start') return STARTS;
      const drained = spec.drain ? spec.podSelector : undefined;
      if (spec.drain && !drained) return pass('draining asks the disruption budgets');
      if (node.ready !== 'True') return pass('the node is not Ready: its pods are down already');
      const budgets = await exhausted(node.name, drained);
      if (budgets.length === 0) return pass(`no disruption budget stands against it${drained ? ' for the pods that are not drained' : ''}`);
      const named = budgets.slice(0, 3).map((budget) => `${budget.namespace}/${budget.name} (pod ${budget.pod})`);
      return refuse(
        `${budgets.length === 1 ? 'a disruption budget allows' : `${budgets.length} disruption budgets allow`} no disruption now: ${named.join(', ')}${budgets.length > 3 ? ', …' : ''}`,
        `kubectl get pdb -n ${budgets[0]?.namespace} ${budgets[0]?.name}; or restart with ${drained ? '--drain for all pods, without --pod-selector' : '--drain'}, which waits for it`,
      );
    },
  };
}
