import type { Upstream } from '../../tunnel/upstream.ts';

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
  /** Its credential was replaced: asked to go, and until it does it gets no new requests, not even for want of a better one. */
  dismissed?: boolean;
  since: Date;
  upstream: Upstream;
  roundTripMs(): number | undefined;
  /** Milliseconds of performance.now() when the agent was last heard. */
  heard(): number;
  isDraining(): boolean;
  /** Asks the agent to go elsewhere; requests that run go on. */
  drain(): void;
  /** Cuts everything at once. */
  destroy(reason: string): void;
};

/** The tunnels that end in this replica. Several for one cluster are usual while an agent moves. */
export type TunnelDirectory = {
  add(tunnel: LocalTunnel): void;
  remove(tunnel: LocalTunnel): void;
  local(): IterableIterator<LocalTunnel>;
  of(id: string): readonly LocalTunnel[];
  /** The newest tunnel that takes requests; else undefined. */
  find(id: string): LocalTunnel | undefined;
  /** When the last tunnel of a cluster ended; undefined when there never was one. */
  lastEnd(id: string): Date | undefined;
  /** Tells the cluster id of every tunnel that comes, goes or begins to drain. */
  onChange(listener: (id: string) => void, signal: AbortSignal): void;
  changed(id: string): void;
};

export function tunnelDirectory(): TunnelDirectory {
  const tunnels = new Map<string, LocalTunnel[]>();
  const ends = new Map<string, Date>();
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
        ends.set(tunnel.id, new Date());
      }
      changed(tunnel.id);
    },
    *local() {
      for (const list of tunnels.values()) yield* list;
    },
    of: (id) => tunnels.get(id) ?? [],
    find: (id) => tunnels.get(id)?.find((tunnel) => !tunnel.isDraining()),
    lastEnd: (id) => ends.get(id),
    onChange(listener, signal) {
      if (signal.aborted) return;
      listeners.add(listener);
      signal.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
  };
}
