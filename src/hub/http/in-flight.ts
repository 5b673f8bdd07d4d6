import { tooManyRequests } from '../../kube/status.ts';

export type InFlightLimits = {
  /** Requests with an end, all callers together. */
  requests: number;
  /** Watches and followed logs, all callers together. */
  streams: number;
  /** Watches and followed logs of one caller. */
  streamsPerUser: number;
};

/** Counts what is being answered. `enter` returns what to call at the end; it throws StatusError 429 when a limit is reached, before anything was done. */
export function inFlightLimiter(limits: InFlightLimits): { enter(user: string, longRunning: boolean): () => void } {
  let requests = 0;
  let streams = 0;
  const byUser = new Map<string, number>();
  return {
    enter(user, longRunning) {
      if (!longRunning) {
        if (requests >= limits.requests) throw tooManyRequests('too many requests are being answered; try again', 1);
        requests++;
        return once(() => {
          requests--;
        });
      }
      const mine = byUser.get(user) ?? 0;
      if (streams >= limits.streams || mine >= limits.streamsPerUser) {
        throw tooManyRequests(
          mine >= limits.streamsPerUser ? `${mine} watches of yours are open, which is the limit` : 'too many watches are open; try again',
          5,
        );
      }
      streams++;
      byUser.set(user, mine + 1);
      return once(() => {
        streams--;
        const left = (byUser.get(user) ?? 1) - 1;
        if (left === 0) byUser.delete(user);
        else byUser.set(user, left);
      });
    },
  };
}

function once(work: () => void): () => void {
  let done = false;
  return () => {
    if (!done) work();
    done = true;
  };
}
