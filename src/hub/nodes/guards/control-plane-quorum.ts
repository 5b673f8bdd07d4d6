import type { NodeFacts } from '../node-facts.ts';
import { type Guard, pass, refuse, STARTS } from './guard.ts';

/** Reads the nodes that carry the control plane. */
export type ControlPlaneNodes = () => Promise<readonly NodeFacts[]>;

/** Control-plane nodes go one at a time, and only while the others are enough for a quorum of etcd. */
export function controlPlaneQuorum(controlPlane: ControlPlaneNodes): Guard {
  return {
    name: 'ControlPlaneQuorum',
    forceable: true,
    recheck: true,
    async check({ node, spec, active }) {
      if (spec.action === 'Start') return STARTS;
      if (!node.controlPlane) return pass('not a control-plane node');
      const busy = new Set(active.filter((operation) => operation.controlPlane).map((operation) => operation.node));
      const others = (await controlPlane()).filter(({ name }) => name !== node.name);
      const down = others.filter(({ name, ready }) => ready !== 'True' || busy.has(name)).map(({ name }) => name);
      const total = others.length + 1;
      const quorum = Math.floor(total / 2) + 1;
      const left = total - 1 - down.length;
      if (down.length > 0) {
        return refuse(
          `control-plane node ${down.join(', ')} is down or being operated on; one at a time`,
          `wait until it is Ready: kubectl wait --for=condition=Ready node/${down[0]}`,
        );
      }
      if (left < quorum) {
        const evidence =
          total === 1
            ? 'it is the only control-plane node'
            : `${left} of ${total} control-plane nodes would be left, a quorum is ${quorum}`;
        return refuse(evidence, 'add control-plane nodes, or use --force if the control plane may go down for the restart');
      }
      return pass(`${left} of ${total} control-plane nodes stay up, a quorum is ${quorum}`);
    },
  };
}
