import { type Guard, pass, refuse } from './guard.ts';

/** Somebody else's lock on a node, for example the Lease of medik8s, or why it cannot be told whether there is one. */
export type ForeignLock = (nodeName: string) => { holder: string; lease: string } | { hidden: string; remedy: string } | undefined;

/** One operation a node: ours by the ledger, others' by their Lease on the node. */
export function alreadyRunning(foreignLock: ForeignLock): Guard {
  return {
    name: 'AlreadyRunning',
    forceable: false,
    recheck: false,
    check({ node, active }) {
      const running = active.find((operation) => operation.node === node.name);
      if (running) {
        return refuse(
          `operation ${running.name} (${running.action}) is running on the node`,
          `kubectl infra logs ${node.name} -f, or kubectl infra cancel ${running.name}`,
        );
      }
      const lock = foreignLock(node.name);
      if (lock && 'hidden' in lock) return refuse(lock.hidden, lock.remedy);
      if (lock) return refuse(`${lock.holder} holds the Lease ${lock.lease}`, `wait until ${lock.holder} has finished with the node`);
      return pass('no operation is running on the node');
    },
  };
}
