import type { V1Lease } from '@kubernetes/client-node';
import type { KubeClient } from '../../kube/client.ts';
import { isNotFound, KubeError } from '../../kube/errors.ts';
import { type Raw, watchCache } from '../../kube/watch-cache.ts';
import type { ForeignLock } from './guards/already-running.ts';
import { foreignHolder, lockName, MEDIK8S_NAMESPACE } from './operations/node-lock.ts';

const HIDDEN = {
  hidden: `the hub may not read the Leases of namespace ${MEDIK8S_NAMESPACE}, so it cannot tell whether medik8s is at work on the node`,
  remedy: 'add deploy/components/medik8s, which gives the right, or run the hub with --medik8s-leases=false',
};

/**
 * Leases of nodes that others hold, in our namespace and, with `medik8s`, in that of medik8s. `onError` hears once when that namespace is there and closed to
 * us; without medik8s it is not there, and then it does not matter that nobody gave us the right.
 */
export function foreignLocks(options: {
  client: KubeClient;
  namespace: string;
  medik8s: boolean;
  signal: AbortSignal;
  onError: (error: unknown) => void;
}): ForeignLock {
  const { client, namespace, medik8s, signal, onError } = options;
  const leasesOf = (where: string, onTrouble: (error: unknown) => void) =>
    watchCache<Raw & V1Lease, V1Lease>({
      client,
      path: `/apis/coordination.k8s.io/v1/namespaces/${where}/leases`,
      transform: (lease) => ({ spec: lease.spec ?? {} }),
      signal,
      onError: onTrouble,
    });
  let hidden = false;

  /** RBAC answers 403 for a namespace that does not exist too. */
  async function whyDenied(): Promise<void> {
    try {
      await client.request({ path: `/api/v1/namespaces/${MEDIK8S_NAMESPACE}`, signal });
    } catch (error) {
      if (isNotFound(error)) hidden = false;
      // Whether it is there cannot be told now; the next denial asks again.
      if (!isDenied(error)) return;
    }
    if (!hidden) onError(new Error(`${HIDDEN.hidden}; every operation is refused. ${HIDDEN.remedy}`));
    hidden = true;
  }

  const places = [{ where: namespace, leases: leasesOf(namespace, onError) }];
  if (medik8s) {
    const leases = leasesOf(MEDIK8S_NAMESPACE, (error) => {
      if (isDenied(error)) whyDenied().catch(onError);
    });
    leases.onChange(() => {
      hidden = false;
    }, signal);
    places.push({ where: MEDIK8S_NAMESPACE, leases });
  }

  return (nodeName) => {
    for (const { where, leases } of places) {
      const lease = leases.get(lockName(nodeName));
      const holder = lease && foreignHolder(lease, new Date());
      if (holder) return { holder, lease: `${where}/${lockName(nodeName)}` };
    }
    return hidden ? HIDDEN : undefined;
  };
}

const isDenied = (error: unknown): boolean => error instanceof KubeError && error.code === 403;
