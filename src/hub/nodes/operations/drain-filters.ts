import type { V1Pod } from '@kubernetes/client-node';

export type DrainOptions = {
  ignoreDaemonSets: boolean;
  deleteEmptyDirData: boolean;
  evictUnmanaged: boolean;
  disableEviction: boolean;
  podSelector: string | undefined;
  /** -1: the pod's own. */
  gracePeriodSeconds: number;
  /** 0: pods in deletion are waited for, however long ago it began. */
  skipWaitForDeleteTimeoutSeconds: number;
};

/** What is to be done with one pod: `evict` it, `skip` it, or `refuse` to drain the node because of it. */
export type PodVerdict = { verdict: 'evict' | 'skip' } | { verdict: 'refuse'; why: string };

const MIRROR = 'kubernetes.io/config.mirror';

/**
 * kubectl drain's rules, in its order: pods long in deletion, DaemonSets, mirror pods, emptyDir, pods without a controller.
 * `daemonSetExists` tells whether the DaemonSet that a pod names is still there. Source: kubectl pkg/drain/filters.go.
 */
export function judgePod(pod: V1Pod, options: DrainOptions, daemonSetExists: boolean, now: Date): PodVerdict {
  const name = `${pod.metadata?.namespace}/${pod.metadata?.name}`;
  const deletion = pod.metadata?.deletionTimestamp;
  if (options.skipWaitForDeleteTimeoutSeconds > 0 && deletion) {
    const age = (now.getTime() - new Date(deletion).getTime()) / 1000;
    if (age > options.skipWaitForDeleteTimeoutSeconds) return { verdict: 'skip' };
  }
  const finished = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
  const controller = pod.metadata?.ownerReferences?.find((owner) => owner.controller);
  if (controller?.kind === 'DaemonSet' && !finished) {
    if (daemonSetExists)
      return options.ignoreDaemonSets
        ? { verdict: 'skip' }
        : { verdict: 'refuse', why: `${name} belongs to a DaemonSet (ignoreDaemonSets)` };
    if (!options.evictUnmanaged) return { verdict: 'refuse', why: `${name} belongs to a DaemonSet that is gone (evictUnmanaged)` };
  }
  if (pod.metadata?.annotations?.[MIRROR] !== undefined) return { verdict: 'skip' };
  if (!finished && pod.spec?.volumes?.some((volume) => volume.emptyDir) && !options.deleteEmptyDirData) {
    return { verdict: 'refuse', why: `${name} keeps data in emptyDir (deleteEmptyDirData)` };
  }
  if (!finished && !controller && !options.evictUnmanaged)
    return { verdict: 'refuse', why: `${name} has no controller that would bring it back (evictUnmanaged)` };
  return { verdict: 'evict' };
}
