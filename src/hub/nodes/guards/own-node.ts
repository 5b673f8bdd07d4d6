import { type Guard, pass, refuse } from './guard.ts';

/** Names of the nodes that a replica of the hub runs on: those of the serving endpoints of its Service, this one's and the leader's. */
export type HubNodes = () => readonly string[];

/** The node under the hub itself: restarting it would stop the one who watches over the restart. */
export function ownNode(hubNodes: HubNodes): Guard {
  return {
    name: 'OwnNode',
    forceable: true,
    recheck: false,
    check({ node, spec }) {
      if (spec.action === 'Start' || !hubNodes().includes(node.name)) return pass('the hub does not run on this node');
      return refuse('the hub runs on this node', `move it away first: kubectl drain ${node.name} --ignore-daemonsets`);
    },
  };
}
