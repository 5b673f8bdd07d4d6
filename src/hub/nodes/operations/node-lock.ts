import type { V1Lease } from '@kubernetes/client-node';
import type { KubeClient } from '../../../kube/client.ts';
import { isConflict, isNotFound, KubeError } from '../../../kube/errors.ts';
import { getLease, leasePath, microTime, putLease } from '../../../kube/lease.ts';

/** Namespace in which the medik8s operators lock nodes, by Leases of the same name as ours. */
export const MEDIK8S_NAMESPACE = 'medik8s-leases';

export const lockName = (nodeName: string): string => `node-${nodeName}`;

const HOLDER_PREFIX = 'fairlead-hub/';
const holderOf = (operation: string) => `${HOLDER_PREFIX}${operation}`;

/** The node and the operation of ours that a Lease locks; undefined for any other Lease. */
export function operationOf(lease: V1Lease): { node: string; operation: string } | undefined {
  const holder = lease.spec?.holderIdentity ?? '';
  const name = lease.metadata?.name ?? '';
  if (!holder.startsWith(HOLDER_PREFIX) || !name.startsWith('node-')) return undefined;
  return { node: name.slice('node-'.length), operation: holder.slice(HOLDER_PREFIX.length) };
}

/** Whether a Lease is held now. Its duration counts from its renewTime, by the clock of whoever wrote it: other systems write these Leases that way. */
export function isHeld(lease: V1Lease, now: Date): boolean {
  if (!lease.spec?.holderIdentity) return false;
  const renewed = lease.spec.renewTime ?? lease.spec.acquireTime;
  if (!renewed || lease.spec.leaseDurationSeconds === undefined) return true;
  return new Date(renewed).getTime() + lease.spec.leaseDurationSeconds * 1000 > now.getTime();
}

/** The lock of a node that somebody other than an operation of ours holds. */
export function foreignHolder(lease: V1Lease, now: Date): string | undefined {
  const holder = lease.spec?.holderIdentity ?? '';
  return isHeld(lease, now) && !holder.startsWith(HOLDER_PREFIX) ? holder : undefined;
}

/**
 * Takes the Lease of a node for an operation (not for a replica: whoever runs the operation has it), or renews it when a replica takes the operation over: its
 * duration is that of one run. Returns who else holds it, undefined when taken.
 */
export async function lockNode(
  client: KubeClient,
  namespace: string,
  nodeName: string,
  operation: string,
  durationSeconds: number,
): Promise<string | undefined> {
  for (;;) {
    const current = await getLease(client, namespace, lockName(nodeName));
    // A Lease of another operation of ours is a leftover: the ledger admits one operation a node.
    const foreign = current && foreignHolder(current, new Date());
    if (foreign) return foreign;
    const now = microTime() as never;
    const holderIdentity = holderOf(operation);
    const acquireTime = (current?.spec?.holderIdentity === holderIdentity && current.spec.acquireTime) || now;
    const spec = { holderIdentity, leaseDurationSeconds: durationSeconds, acquireTime, renewTime: now };
    const metadata = current?.metadata ?? { name: lockName(nodeName), labels: { 'app.kubernetes.io/managed-by': 'fairlead-hub' } };
    try {
      await putLease(client, namespace, { metadata, spec });
      return undefined;
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
  }
}

/** Gives the Lease back; one that is somebody else's by now is left alone. */
export async function unlockNode(client: KubeClient, namespace: string, nodeName: string, operation: string): Promise<void> {
  const current = await getLease(client, namespace, lockName(nodeName));
  if (current?.spec?.holderIdentity !== holderOf(operation)) return;
  try {
    await client.request({
      method: 'DELETE',
      path: leasePath(namespace, lockName(nodeName)),
      body: {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        preconditions: { uid: current.metadata?.uid, resourceVersion: current.metadata?.resourceVersion },
      },
    });
  } catch (error) {
    if (!isNotFound(error) && !isConflict(error)) throw error;
  }
}

/** True when the error says that there is no such namespace or that we may not look into it. If it is there, guard AlreadyRunning has refused. */
export const isAbsent = (error: unknown): boolean => error instanceof KubeError && (error.code === 404 || error.code === 403);
