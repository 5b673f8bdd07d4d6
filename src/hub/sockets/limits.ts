import { tooManyRequests } from '../../kube/status.ts';

/** How many requests may be in tunnels at once. */
export type SocketLimits = { perUser: number; perCluster: number };

/** Counts requests by caller and by cluster. `enter` returns what to call at the end; throws StatusError 429 before anything was done. */
export function socketLimiter(limits: SocketLimits): { enter(user: string, cluster: string): () => void } {
  const users = new Map<string, number>();
  const clusters = new Map<string, number>();
  const more = (counts: Map<string, number>, key: string) => counts.set(key, (counts.get(key) ?? 0) + 1);
  const less = (counts: Map<string, number>, key: string) => {
    const left = (counts.get(key) ?? 1) - 1;
    if (left > 0) counts.set(key, left);
    else counts.delete(key);
  };
  return {
    enter(user, cluster) {
      if ((users.get(user) ?? 0) >= limits.perUser)
        throw tooManyRequests(`${limits.perUser} requests of yours are open, which is the limit; close some or try again`, 1);
      if ((clusters.get(cluster) ?? 0) >= limits.perCluster)
        throw tooManyRequests('too many requests to this cluster are open; try again', 1);
      more(users, user);
      more(clusters, cluster);
      let left = false;
      return () => {
        if (left) return;
        left = true;
        less(users, user);
        less(clusters, cluster);
      };
    },
  };
}

/** At most `perSecond` in any second, on average; a burst of as many. True when there is room now. */
export function rateLimiter(perSecond: number, now: () => number = () => performance.now()): () => boolean {
  let tokens = perSecond;
  let at = now();
  return () => {
    const time = now();
    tokens = Math.min(perSecond, tokens + ((time - at) / 1_000) * perSecond);
    at = time;
    if (tokens < 1) return false;
    tokens--;
    return true;
  };
}
