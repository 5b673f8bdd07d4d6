import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { TunnelDirectory } from './tunnel-directory.ts';

export type SocketMetrics = {
  /** A request through a socket has ended: its kind and code (0: cut). */
  ended(kind: 'request' | 'upgrade', code: number): void;
  /** The head of an answer came after so many seconds. */
  answered(seconds: number): void;
  open: Gauge<'kind'>;
  attached(result: string): void;
};

export function socketMetrics(registry: Registry, directory: TunnelDirectory): SocketMetrics {
  const requests = new Counter({
    name: 'fairlead_hub_socket_requests_total',
    help: 'Requests through tunnels by kind (request, upgrade) and HTTP status; 0: cut before an answer.',
    labelNames: ['kind', 'code'] as const,
    registers: [registry],
  });
  const heads = new Histogram({
    name: 'fairlead_hub_socket_answer_seconds',
    help: 'Until the head of an answer had come through the tunnel.',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [registry],
  });
  const open = new Gauge({
    name: 'fairlead_hub_socket_requests_open',
    help: 'Requests and upgraded connections that are open in tunnels now.',
    labelNames: ['kind'] as const,
    registers: [registry],
  });
  const attaches = new Counter({
    name: 'fairlead_hub_tunnel_attaches_total',
    help: 'Attempts of agents to open a tunnel, by result; refused: not let in, for whatever reason; duplicate: the agent has one here already; took_over: another agent process of the cluster had one, at any replica (counted once, where its end was reported).',
    labelNames: ['result'] as const,
    registers: [registry],
  });
  new Gauge({
    name: 'fairlead_hub_tunnels',
    help: 'Tunnels that end in this replica, by protocol.',
    labelNames: ['protocol'] as const,
    registers: [registry],
    collect() {
      for (const protocol of ['fairlead', 'clusternet']) this.set({ protocol }, 0);
      for (const { protocol } of directory.local()) this.inc({ protocol });
    },
  });
  return {
    open,
    ended: (kind, code) => requests.inc({ kind, code: String(code) }),
    answered: (seconds) => heads.observe(seconds),
    attached: (result) => attaches.inc({ result }),
  };
}
