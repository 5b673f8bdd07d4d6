import { Counter, Gauge, type Registry } from 'prom-client';

/** Metrics of child clusters. Labels take few values: no cluster names. */
export type ClusterMetrics = {
  registrations: Counter<'result'>;
  renewals: Counter;
  plainCredentials: Counter;
};

/** `approved` and `connected` are asked when metrics are read. */
export function clusterMetrics(registry: Registry, counts: { approved: () => number; connected: () => number }): ClusterMetrics {
  const registers = [registry];
  new Gauge({
    name: 'fairlead_hub_clusters_approved',
    help: 'Child clusters that are let in.',
    registers,
    collect() {
      this.set(counts.approved());
    },
  });
  new Gauge({
    name: 'fairlead_hub_clusters_connected',
    help: 'Child clusters with a tunnel to any replica.',
    registers,
    collect() {
      this.set(counts.connected());
    },
  });
  return {
    registrations: new Counter({
      name: 'fairlead_hub_cluster_registrations_total',
      help: 'Registration requests that got another result.',
      labelNames: ['result'],
      registers,
    }),
    renewals: new Counter({ name: 'fairlead_hub_token_renewals_total', help: 'New tokens for agents that had one.', registers }),
    plainCredentials: new Counter({
      name: 'fairlead_hub_plain_credentials_total',
      help: 'Tokens that were written readably, for agents without a sealing key.',
      registers,
    }),
  };
}
