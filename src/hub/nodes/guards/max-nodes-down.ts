import { type Guard, pass, refuse, STARTS } from './guard.ts';

/** `3` or `10%`; a percentage is rounded down, and at least one node may always be down. */
export type NodeBudget = { count: number } | { percent: number };

/** Parses `3` or `10%`. Throws an Error that says what is wanted. */
export function parseNodeBudget(text: string): NodeBudget {
  const match = /^(\d{1,6})(%?)$/.exec(text);
  const value = Number(match?.[1]);
  if (!match || value < 1 || (match[2] && value > 100))
    throw new Error(`must be a number of nodes from 1 on, or a percentage from 1% to 100%, not ${JSON.stringify(text)}`);
  return match[2] ? { percent: value } : { count: value };
}

const allowed = (budget: NodeBudget, total: number) =>
  'count' in budget ? budget.count : Math.max(1, Math.floor((total * budget.percent) / 100));

/** At most so many nodes down at once, in the cluster and in each zone. A node that is not Ready counts, whoever took it down; the node itself does not. */
export function maxNodesDown(cluster: NodeBudget, zone: NodeBudget): Guard {
  return {
    name: 'MaxNodesDown',
    forceable: true,
    recheck: true,
    check({ node, spec, nodes, active }) {
      if (spec.action === 'Start') return STARTS;
      const busy = new Set(active.map((operation) => operation.node));
      let total = 0;
      let inZone = 0;
      const down: string[] = [];
      let downInZone = 0;
      for (const other of nodes()) {
        total++;
        const sameZone = node.zone !== '' && other.zone === node.zone;
        if (sameZone) inZone++;
        if (other.name === node.name || (other.ready === 'True' && !busy.has(other.name))) continue;
        down.push(other.name);
        if (sameZone) downInZone++;
      }
      const sample = `${down.slice(0, 3).join(', ')}${down.length > 3 ? ', …' : ''}`;
      const limit = allowed(cluster, total);
      if (down.length + 1 > limit) {
        return refuse(
          `${down.length} of ${total} nodes are down or being operated on (${sample}); at most ${limit} may be`,
          'wait for them: kubectl get nodes; or raise --max-nodes-down of the hub',
        );
      }
      const zoneLimit = allowed(zone, inZone);
      if (node.zone !== '' && downInZone + 1 > zoneLimit) {
        return refuse(
          `${downInZone} of ${inZone} nodes of zone ${node.zone} are down or being operated on; at most ${zoneLimit} may be`,
          `wait for them: kubectl get nodes -l topology.kubernetes.io/zone=${node.zone}; or raise --max-nodes-down-per-zone of the hub`,
        );
      }
      return pass(`${down.length} of ${total} nodes are down; at most ${limit} may be`);
    },
  };
}
