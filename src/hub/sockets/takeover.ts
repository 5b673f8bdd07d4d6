import { setTimeout as sleep } from 'node:timers/promises';
import type { SocketClusters } from './clusters.ts';
import type { SocketMetrics } from './metrics.ts';
import type { LocalTunnel, TunnelDirectory } from './tunnel-directory.ts';

/** A tunnel of another replica, as far as a takeover goes. */
export type ToldTunnel = {
  protocol: string;
  /** undefined: a replica of an older version, which does not say. */
  instance: string | undefined;
  rank: number | undefined;
  draining: boolean;
  tookOver: boolean;
};

/** What the other replicas tell of a cluster's tunnels; both are absent when there can be no others. */
export type Telling = {
  told?: (id: string) => readonly ToldTunnel[];
  onChange?: (listener: (id: string) => void, signal: AbortSignal) => void;
};

export type TakeoverOptions = {
  directory: TunnelDirectory;
  clusters: Pick<SocketClusters, 'takenOver'>;
  peers: Telling;
  metrics: Pick<SocketMetrics, 'attached'>;
  signal: AbortSignal;
  onError: (error: unknown) => void;
};

const SUPERSEDED = 'superseded by another agent of this cluster';
/** Longer than replicas take to tell each other of a tunnel. */
const TOLD_MS = 1_000;

type Ranked = Pick<LocalTunnel, 'protocol' | 'instance' | 'rank'>;

/** Agents of clusternet do not say which process they are: all of them are one. */
const ownerOf = ({ protocol, instance }: Omit<Ranked, 'rank'>) => `${protocol}/${instance}`;
const isRanked = <T extends ToldTunnel>(told: T): told is T & Ranked => told.instance !== undefined && told.rank !== undefined;
const isSame = (one: Ranked, other: Ranked) => one.rank === other.rank && ownerOf(one) === ownerOf(other);
const isBefore = (one: Ranked, other: Ranked) => one.rank < other.rank || (one.rank === other.rank && ownerOf(one) < ownerOf(other));
/** A tunnel whose agent has left only ends what it had begun, which is how one agent process hands over to the next. What was dismissed did not leave by itself. */
const holds = (tunnel: LocalTunnel) => tunnel.dismissed === true || !tunnel.isClosing();

/**
 * One agent process holds a cluster's socket, in all replicas: the one with the tunnel of the highest rank. The tunnels of others are ended by the replicas that have them, so that no
 * request reaches two different machines. A rank is the time in milliseconds, but always above every rank that is known for the cluster: clocks that differ decide only between two
 * processes that came before their replicas had told each other, and all replicas compare the same two numbers.
 */
export function takeovers({ directory, clusters, peers, metrics, signal, onError }: TakeoverOptions) {
  const told = (id: string) => peers.told?.(id).filter(isRanked) ?? [];
  /** For clusters with a tunnel here: what is told of others, and what was until a moment ago. */
  const lately = new Map<string, { now: readonly Ranked[]; gone: ReadonlyArray<{ tunnel: Ranked; at: number }> }>();

  /** All that was told within the last second. */
  function remember(id: string): Ranked[] {
    const at = performance.now();
    const now = told(id).filter(({ draining }) => !draining);
    const before = lately.get(id);
    const missing = before?.now.filter((tunnel) => !now.some((other) => isSame(tunnel, other))) ?? [];
    const gone = [...(before?.gone ?? []), ...missing.map((tunnel) => ({ tunnel, at }))].filter((one) => at - one.at < TOLD_MS);
    lately.set(id, { now, gone });
    return [...now, ...gone.map(({ tunnel }) => tunnel)];
  }

  function report(id: string): void {
    metrics.attached('took_over');
    clusters.takenOver(id, 'another agent process has opened the socket of this cluster; the tunnels of the earlier one were ended');
  }

  /** Of several replicas at which a process takes over, the first one reports it. */
  async function reportUnlessTold(tunnel: LocalTunnel): Promise<void> {
    await sleep(TOLD_MS, undefined, { signal }).catch(() => undefined);
    if (!told(tunnel.id).some((other) => other.tookOver && ownerOf(other) === ownerOf(tunnel))) report(tunnel.id);
  }

  /** Ends tunnels here when a replica tells of a newer process. */
  function yieldToNewer(id: string): void {
    const mine = directory.of(id).filter(holds);
    if (mine.length === 0) {
      lately.delete(id);
      return;
    }
    const known = remember(id);
    const others = told(id).filter(({ draining }) => !draining);
    const newest = others.reduce<Ranked | undefined>((last, other) => (last && isBefore(other, last) ? last : other), undefined);
    if (!newest) return;
    const ended = mine.filter((tunnel) => ownerOf(tunnel) !== ownerOf(newest) && isBefore(tunnel, newest));
    // When the newest tunnel of all is of a process that is here, its older ones stay too.
    const [first] = ended;
    if (!first || mine.some((tunnel) => isBefore(newest, tunnel) && ownerOf(tunnel) === ownerOf(first))) return;
    for (const tunnel of ended) tunnel.destroy(SUPERSEDED);
    // The new process ended one where it came in, or another replica ends one of the same process, perhaps has ended it, and had it longer: that one reports it.
    const reported = others.some((other) => other.tookOver && ownerOf(other) === ownerOf(newest));
    const oldest = ended.reduce((one, other) => (isBefore(one, other) ? one : other), first);
    if (!reported && !known.some((other) => ownerOf(other) === ownerOf(oldest) && isBefore(other, oldest))) report(id);
  }
  peers.onChange?.((id) => {
    try {
      yieldToNewer(id);
    } catch (error) {
      onError(error);
    }
  }, signal);

  return {
    /** The rank of a tunnel that is opened now. */
    rank: (id: string): number => Math.max(Date.now(), ...[...directory.of(id), ...told(id)].map(({ rank }) => rank + 1)),
    /** Ends the tunnels here of other processes than that of `tunnel`, which is about to be added. `hasOthers`: its agent says that it has tunnels to other replicas. */
    enter(tunnel: LocalTunnel, hasOthers: boolean): void {
      remember(tunnel.id);
      const ended = directory.of(tunnel.id).filter((other) => holds(other) && ownerOf(other) !== ownerOf(tunnel));
      if (ended.length === 0) return;
      tunnel.tookOver = true;
      for (const other of ended) other.destroy(SUPERSEDED);
      if (hasOthers && peers.told) reportUnlessTold(tunnel).catch(onError);
      else report(tunnel.id);
    },
  };
}
