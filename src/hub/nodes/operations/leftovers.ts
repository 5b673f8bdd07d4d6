import type { V1LeaseList } from '@kubernetes/client-node';
import type { KubeClient } from '../../../kube/client.ts';
import { isNotFound } from '../../../kube/errors.ts';
import { RUNNING_OPERATION } from '../annotations.ts';
import type { NodeDirectory } from '../node-directory.ts';
import { removeAnnotation, uncordon } from './cordon.ts';
import type { Ledger } from './ledger.ts';
import { operationOf, unlockNode } from './node-lock.ts';
import { isFinal, type OperationStore } from './store.ts';

export type LeftoversInput = {
  client: KubeClient;
  directory: NodeDirectory;
  ledger: Ledger;
  store: OperationStore;
  namespace: string;
  /** Names of the operations that this replica is running. */
  running: ReadonlySet<string>;
};

/**
 * Takes back what ended operations still hold on nodes: their cordon, their annotation, their Lease. A leader that was frozen between a look and a write
 * can, when it wakes up, make that write after its successor has ended the operation; nobody else would ever undo it.
 */
export async function clearLeftovers({ client, directory, ledger, store, namespace, running }: LeftoversInput): Promise<void> {
  const active = new Set(ledger.active().map((operation) => operation.name));
  const isOver = async (name: string): Promise<boolean> => {
    if (running.has(name) || active.has(name)) return false;
    try {
      return isFinal((await store.get(name)).status.phase);
    } catch (error) {
      if (isNotFound(error)) return true;
      throw error;
    }
  };
  for (const { name: node, cordonedBy, operation } of directory.facts()) {
    if (cordonedBy !== undefined && (await isOver(cordonedBy))) await uncordon(client, node, cordonedBy);
    if (operation !== undefined && (await isOver(operation))) await removeAnnotation(client, node, RUNNING_OPERATION, operation);
  }
  const leases = await client.request<V1LeaseList>({
    path: `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`,
    query: { labelSelector: 'app.kubernetes.io/managed-by=fairlead-hub' },
  });
  for (const lease of leases.items) {
    const held = operationOf(lease);
    if (held && (await isOver(held.operation))) await unlockNode(client, namespace, held.node, held.operation);
  }
}
