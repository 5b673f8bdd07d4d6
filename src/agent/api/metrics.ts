import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { EndReason, TunnelEvent } from '../tunnel/keeper.ts';
import { eventLoopLag } from './event-loop-lag.ts';

/** The agent's metrics; the upstream registers its own with `registry`. */
export type AgentMetrics = {
  registry: Registry;
  tunnel(event: TunnelEvent): void;
};

/** `read` is asked at each scrape. */
export function agentMetrics(read: { roundTripMs: () => number | undefined; tokenEndsAt: () => number | undefined }): AgentMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 1_000 });
  eventLoopLag(registry);
  const tunnels = new Gauge({ name: 'fairlead_agent_tunnels', help: 'Tunnels to the hub that are open.', registers: [registry] });
  const opened = new Counter({ name: 'fairlead_agent_tunnels_opened_total', help: 'Tunnels that were opened.', registers: [registry] });
  const ended = new Counter({
    name: 'fairlead_agent_tunnels_ended_total',
    help: 'Tunnels that ended, by why: lost, draining, renewed, superseded, unregistered or stopping.',
    labelNames: ['reason'] as const,
    registers: [registry],
  });
  const failed = new Counter({
    name: 'fairlead_agent_dial_failures_total',
    help: 'Attempts to open a tunnel that failed.',
    registers: [registry],
  });
  for (const reason of ['lost', 'draining', 'renewed', 'superseded', 'unregistered', 'stopping'] satisfies EndReason[])
    ended.inc({ reason }, 0);
  new Gauge({
    name: 'fairlead_agent_tunnel_round_trip_seconds',
    help: 'Last ping of the fastest tunnel; absent while there is none.',
    registers: [registry],
    collect() {
      const ms = read.roundTripMs();
      this.reset();
      if (ms !== undefined) this.set(ms / 1_000);
    },
  });
  new Gauge({
    name: 'fairlead_agent_token_expiry_timestamp_seconds',
    help: "When the cluster's token ends; absent without one.",
    registers: [registry],
    collect() {
      const at = read.tokenEndsAt();
      this.reset();
      if (at !== undefined) this.set(at / 1_000);
    },
  });
  return {
    registry,
    tunnel(event) {
      if (event.kind === 'failed') failed.inc();
      else tunnels.set(event.tunnels);
      if (event.kind === 'up') opened.inc();
      if (event.kind === 'down') ended.inc({ reason: event.why });
    },
  };
}
