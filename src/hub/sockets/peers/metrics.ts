import { Counter, Gauge, type Registry } from 'prom-client';

export type PeerMetrics = {
  /** A forwarded request has ended. `lost`: the peer or its tunnel went away before the answer was whole. */
  forwarded(result: 'answered' | 'lost' | 'cancelled'): void;
  /** `connect`: no connection; `identity`: not a replica; `lost`: it broke; `silent`: nothing was heard for too long. */
  linkFailed(reason: 'connect' | 'identity' | 'lost' | 'silent'): void;
};

/** Metrics of the connections between replicas. `peers` and `tunnels` are asked when the metrics are read. */
export function peerMetrics(registry: Registry, ask: { peers: () => number; tunnels: () => number }): PeerMetrics {
  const registers = [registry];
  new Gauge({
    name: 'fairlead_hub_peers_connected',
    help: 'Other replicas that this one is connected to.',
    registers,
    collect() {
      this.set(ask.peers());
    },
  });
  new Gauge({
    name: 'fairlead_hub_peer_tunnels',
    help: 'Clusters that other replicas hold a tunnel to.',
    registers,
    collect() {
      this.set(ask.tunnels());
    },
  });
  const forwarded = new Counter({
    name: 'fairlead_hub_peer_requests_total',
    help: 'Requests handed to the replica that holds the tunnel, by how they ended.',
    labelNames: ['result'] as const,
    registers,
  });
  const failures = new Counter({
    name: 'fairlead_hub_peer_link_failures_total',
    help: 'Connections to other replicas that failed, by what went wrong.',
    labelNames: ['reason'] as const,
    registers,
  });
  return {
    forwarded: (result) => forwarded.inc({ result }),
    linkFailed: (reason) => failures.inc({ reason }),
  };
}
