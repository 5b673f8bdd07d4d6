import type { Upstream } from '../../tunnel/upstream.ts';
import { noteEnd } from './ends.ts';

/** A tunnel that ends in this replica. */
export type LocalTunnel = {
  /** Cluster id. */
  id: string;
  /** fairlead or clusternet. */
  protocol: string;
  agentVersion: string | undefined;
  /** Random per agent process; '' for clusternet agents, which do not say. */
  instance: string;
  credentialID: string | undefined;
  /** Its credential was replaced: it gets no new requests, not even for want of a better one. */
  dismissed?: boolean;
  /** When it was opened it ended those of another agent process. */
  tookOver?: boolean;
  since: Date;
  /** Which of two agent processes is the newer one; see takeover.ts. */
  rank: number;
  upstream: Upstream;
  roundTripMs(): number | undefined;
  /** Milliseconds of performance.now() when the agent was last heard. */
  heard(): number;
  /** It is about to end: another tunnel is better. */
  isDraining(): boolean;
  /** It takes no new requests. */
  isClosing(): boolean;
  /** Its end was asked for: the agent has opened another one, or is about to. */
  hasLeft(): boolean;
  /** Asks the agent to go elsewhere; until it has, this tunnel takes requests. */
  drain(): void;
  /** Takes no new requests, and ends when those that run have. */
  close(): void;
  /** Cuts everything at once. */
  destroy(reason: string): void;
};

/** The end of the last tunnel of a cluster. */
export type TunnelEnd = {
  since: Date;
  /** The same in milliseconds of performance.now(). */
  at: number;
  /** The agent went elsewhere, as opposed to: it was lost. */
  left: boolean;
};

/** The tunnels that end in this replica. Several for one cluster are usual while an agent moves. */
export type TunnelDirectory = {
  add(tunnel: LocalTunnel): void;
  remove(tunnel: LocalTunnel): void;
  local(): IterableIterator<LocalTunnel>;
  of(id: string): readonly LocalTunnel[];
  /** The newest tunnel that will last; else undefined. */
  find(id: string): LocalTunnel | undefined;
  /** The newest that takes requests although it is about to end; else undefined. */
  lastResort(id: string): LocalTunnel | undefined;
  /** When the last tunnel of a cluster ended; undefined when there never was one. */
  lastEnd(id: string): TunnelEnd | undefined;
  /** Tells the cluster id of every tunnel that comes, goes or begins to drain. */
  onChange(listener: (id: string) => void, signal: AbortSignal): void;
  changed(id: string): void;
};

export function tunnelDirectory(): TunnelDirectory {
  const tunnels = new Map<string, LocalTunnel[]>();
  const ends = new Map<string, TunnelEnd>();
  const listeners = new Set<(id: string) => void>();
  const changed = (id: string) => {
    for (const listener of listeners) listener(id);
  };
  return {
    changed,
    add(tunnel) {
      tunnels.set(tunnel.id, [tunnel, ...(tunnels.get(tunnel.id) ?? [])]);
      ends.delete(tunnel.id);
      changed(tunnel.id);
    },
    remove(tunnel) {
      const left = (tunnels.get(tunnel.id) ?? []).filter((other) => other !== tunnel);
      if (left.length > 0) tunnels.set(tunnel.id, left);
      else {
        tunnels.delete(tunnel.id);
        noteEnd(ends, tunnel.id, { since: new Date(), at: performance.now(), left: tunnel.hasLeft() });
      }
      changed(tunnel.id);
    },
    *local() {
      for (const list of tunnels.values()) yield* list;
    },
    of: (id) => tunnels.get(id) ?? [],
    find: (id) => tunnels.get(id)?.find((tunnel) => !tunnel.isDraining()),
    lastResort: (id) => tunnels.get(id)?.find((tunnel) => !tunnel.dismissed && !tunnel.isClosing()),
    lastEnd: (id) => ends.get(id),
    onChange(listener, signal) {
      if (signal.aborted) return;
      listeners.add(listener);
      signal.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
  };
}
