import { type Guard, pass, refuse } from './guard.ts';

/** Two Nodes with one machine: one of them lies, and acting on it would restart the other's machine. */
export function uniqueMachine(sharing: (nodeName: string) => readonly string[]): Guard {
  return {
    name: 'UniqueMachine',
    forceable: false,
    recheck: true,
    check({ node }) {
      const others = sharing(node.name).filter((name) => name !== node.name);
      if (others.length === 0) return pass('no other node claims the same machine');
      return refuse(
        `node ${others.join(', ')} claims the same machine in spec.providerID`,
        `find out which Node is wrong and delete it: kubectl get node ${node.name} ${others[0]} -o jsonpath='{.items[*].spec.providerID}'`,
      );
    },
  };
}
