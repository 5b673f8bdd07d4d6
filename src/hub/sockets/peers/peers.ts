import type { Registry } from 'prom-client';
import type { KubeClient } from '../../../kube/client.ts';
import type { Upstream } from '../../../tunnel/upstream.ts';
import { noteEnd } from '../ends.ts';
import type { TunnelEnd } from '../tunnel-directory.ts';
import { peerAuthority } from './authority.ts';
import { type OnGone, PEER_TIMING, type PeerConnection, type PeerTiming } from './connection.ts';
import { type PeerAddress, peerDiscovery } from './discovery.ts';
import { forwarding, type Owner } from './forward.ts';
import { openLink, type PeerLink } from './link.ts';
import { listenForPeers } from './listener.ts';
import { peerMetrics } from './metrics.ts';
import type { LocalTunnels, TunnelInfo } from './tunnel-list.ts';

export type HubPeersOptions = {
  client: KubeClient;
  namespace: string;
  /** Service in front of the hub; its port named `peers` is where replicas are found. */
  service: string;
  /** Name of this replica, unique among all. */
  identity: string;
  /** Secret of the replicas' own authority. */
  secret: string;
  bindAddress: string;
  port: number;
  /** The tunnels that end in this replica. */
  tunnels: LocalTunnels;
  registry: Registry;
  signal: AbortSignal;
  onError: (error: unknown) => void;
  /** What the log should know of the other replicas. */
  onNews: (text: string) => void;
  timing?: Partial<PeerTiming>;
  /** Lives of the certificates, in milliseconds. */
  certificates?: { authorityMs?: number; certificateMs?: number; pollMs?: number };
};

/** What is known of the tunnels that other replicas have to a cluster. */
export type PeerTunnels = {
  connected: boolean;
  /** Since when it is connected, or when the last tunnel ended. */
  since: Date;
  /** When a replica that holds, or held, a tunnel was last heard. */
  lastSeen: Date;
  roundTripMs: number | undefined;
  agentVersion: string | undefined;
  protocol: string;
  /** Replicas with a tunnel. */
  tunnels: number;
  /** It ended only because its replica is not heard: the agent may be well. */
  withPeer: boolean;
};

export type HubPeers = {
  port: number;
  /** The way to a cluster through another replica; undefined when none that can be reached has a tunnel. */
  find(id: string): Upstream | undefined;
  /** undefined when no replica that can be reached has, or is known to have had, a tunnel. */
  connection(id: string): PeerTunnels | undefined;
  /** The end of the last tunnel that another replica is known to have had; undefined while one has a tunnel. */
  lastEnd(id: string): TunnelEnd | undefined;
  /** What the replicas that are heard tell of their tunnels to a cluster. */
  told(id: string): readonly TunnelInfo[];
  onChange(listener: (id: string) => void, signal: AbortSignal): void;
  /** Replicas that are ready, with this one, whether they are connected or not. */
  replicas(): number;
  /** For readyz: why this replica does not know yet what the others have; undefined once it did. */
  check(): string | undefined;
  /** Lets requests of other replicas end for `graceMs`. Call it when this replica's own requests have ended. */
  close(graceMs: number): Promise<void>;
};

/** The other replicas of the hub: finds them, tells them of the tunnels here, knows theirs, and carries requests to them. Rejects when the port cannot be had. */
export async function hubPeers(options: HubPeersOptions): Promise<HubPeers> {
  const { client, namespace, service, identity, tunnels, onError, onNews } = options;
  const lifetime = new AbortController();
  const signal = AbortSignal.any([options.signal, lifetime.signal]);
  const timing = { ...PEER_TIMING, ...options.timing };
  const links = new Map<string, { link: PeerLink; address: PeerAddress }>();
  const listeners = new Set<(id: string) => void>();
  const ended = new Map<string, PeerTunnels & TunnelEnd>();
  let settled = false;

  const authority = peerAuthority({
    ...{ client, namespace, identity, secret: options.secret, signal, onProblem: onNews },
    ...options.certificates,
  });
  const listener = await listenForPeers({
    ...{ address: options.bindAddress, port: options.port, namespace, authority, tunnels, onError, signal },
    goneMs: timing.goneMs,
  });
  const discovery = peerDiscovery({ client, namespace, service, signal, onError });
  const metrics = peerMetrics(options.registry, {
    peers: () => new Set(usable().map((peer) => peer.identity)).size,
    tunnels: countTunnels,
  });

  function usable(): PeerConnection[] {
    return [...links.values()].flatMap(({ link }) => link.usable() ?? []);
  }
  function countTunnels(): number {
    return new Set(usable().flatMap((peer) => [...peer.tunnels.keys()])).size;
  }

  /** Those with a tunnel to the cluster; only if there is no other, those whose tunnel is about to end. */
  function owners(id: string, without?: ReadonlySet<Owner>): PeerConnection[] {
    const all = usable().filter((peer) => peer.tunnels.has(id) && !without?.has(peer));
    const lasting = all.filter((peer) => !peer.tunnels.get(id)?.draining);
    return lasting.length > 0 ? lasting : all;
  }
  function pick(id: string, tried: ReadonlySet<Owner>): Owner | undefined {
    const found = owners(id, tried);
    return found[Math.floor(Math.random() * found.length)];
  }

  function onChange(ids: Iterable<string>): void {
    for (const id of ids) {
      if (ended.size > 0 && owners(id).length > 0) ended.delete(id);
      for (const told of listeners) told(id);
    }
  }
  const onGone: OnGone = ({ id, roundTripMs, agentVersion, protocol }, { left, withPeer }) => {
    const now = new Date();
    noteEnd(ended, id, {
      connected: false,
      since: now,
      lastSeen: now,
      roundTripMs,
      agentVersion,
      protocol,
      tunnels: 0,
      left,
      withPeer,
      at: performance.now(),
    });
  };

  function open(address: PeerAddress): void {
    const link = openLink({ address, identity, namespace, authority, timing, metrics, signal, onChange, onGone, onNews });
    links.set(address.key, { link, address });
    link.ended.then(() => {
      links.delete(address.key);
      // It may have come back at that very moment.
      follow();
    }, onError);
  }
  function follow(): void {
    if (signal.aborted) return;
    const wanted = new Map(discovery.addresses().map((address) => [address.key, address]));
    for (const [key, { link, address }] of links) {
      const found = wanted.get(key);
      link.want(found !== undefined);
      links.set(key, { link, address: found ?? { ...address, ready: false } });
    }
    for (const [key, address] of wanted) if (!links.has(key)) open(address);
  }
  discovery.onChange(follow, signal);
  follow();

  return {
    port: listener.port,
    find(id) {
      if (owners(id).length === 0) return undefined;
      return forwarding(
        id,
        (tried) => pick(id, tried),
        metrics,
        () => ended.get(id),
      );
    },
    connection(id) {
      const found = owners(id);
      const infos = found.flatMap((peer) => peer.tunnels.get(id) ?? []);
      const [first] = infos;
      if (!first) return ended.get(id);
      return {
        connected: true,
        since: new Date(Math.min(...infos.map(({ since }) => since.getTime()))),
        lastSeen: new Date(Math.max(...found.map((peer) => peer.heard().getTime()))),
        roundTripMs: infos.map(({ roundTripMs }) => roundTripMs).find((ms) => ms !== undefined),
        agentVersion: first.agentVersion,
        protocol: first.protocol,
        tunnels: infos.length,
        withPeer: false,
      };
    },
    lastEnd: (id) => ended.get(id),
    told: (id) => usable().flatMap((peer) => peer.tunnels.get(id) ?? []),
    onChange(told, until) {
      if (until.aborted) return;
      listeners.add(told);
      until.addEventListener('abort', () => listeners.delete(told), { once: true });
    },
    replicas() {
      const others = [...links.values()].filter(({ link, address }) => address.ready && link.tried() && !link.isSelf());
      return 1 + new Set(others.map(({ link, address }) => link.identity() ?? address.key)).size;
    },
    check() {
      if (settled) return undefined;
      if (!authority.current()) return authority.problem() ?? 'no certificate for other replicas yet';
      const problem = discovery.problem();
      if (problem !== undefined) return problem;
      const untried = [...links.values()].filter(({ link }) => !link.tried());
      if (untried.length > 0) return `other replicas have not been asked yet: ${untried.map(({ address }) => address.address).join(', ')}`;
      settled = true;
      return undefined;
    },
    async close(graceMs) {
      await listener.close(graceMs);
      lifetime.abort();
      await Promise.all([...links.values()].map(({ link }) => link.ended));
    },
  };
}
