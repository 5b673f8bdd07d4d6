import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { type CertificateInfo, type LifecycleOperation, OPERATION_TYPES } from '../../kube/lifecycle.ts';

/** Numbers of the lifecycle; http_request_request_frequency and cluster_installation_status have kubeclusteragent's names. */
export type LifecycleMetrics = {
  /** One answered request; `path` is the route, not what was sent. */
  request(request: { clusterType: string; version: string; code: number; method: string; path: string; seconds: number }): void;
  operation(operation: LifecycleOperation): void;
  certificates(certificates: readonly CertificateInfo[]): void;
  /** From where the numbers are read that are asked for at each scrape. */
  watch(read: LifecycleNumbers): void;
};

export type LifecycleNumbers = {
  auditEntries(): number;
  auditBroken(): boolean;
  drifted(): number;
  /** Undefined without a cluster. */
  ready(): boolean | undefined;
};

const STEP_BUCKETS = [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

export function lifecycleMetrics(registry: Registry): LifecycleMetrics {
  const registers = [registry];
  let read: LifecycleNumbers | undefined;
  const requests = new Histogram({
    name: 'http_request_request_frequency',
    help: "Seconds of the requests to the agent's own API.",
    labelNames: ['cluster_type', 'version', 'code', 'method', 'path'] as const,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10],
    registers,
  });
  const installation = new Gauge({
    name: 'cluster_installation_status',
    help: '1 for how the last operation of each kind ended.',
    labelNames: ['action', 'status'] as const,
    registers,
  });
  const operations = new Counter({
    name: 'fairlead_agent_operations_total',
    help: 'Operations that ended, by type and result.',
    labelNames: ['type', 'result'] as const,
    registers,
  });
  for (const type of OPERATION_TYPES) for (const result of ['Succeeded', 'Failed']) operations.inc({ type, result }, 0);
  const durations = new Histogram({
    name: 'fairlead_agent_operation_duration_seconds',
    help: 'From the begin of an operation to its end, restarts of the agent included.',
    labelNames: ['type', 'result'] as const,
    buckets: [1, 5, 15, 30, 60, 120, 300, 600, 1_800],
    registers,
  });
  const steps = new Histogram({
    name: 'fairlead_agent_operation_step_duration_seconds',
    help: 'Steps of operations that were done.',
    labelNames: ['type', 'step'] as const,
    buckets: STEP_BUCKETS,
    registers,
  });
  const days = new Gauge({
    name: 'fairlead_agent_certificate_days_left',
    help: 'Days until a certificate of the cluster ends; below 0 it has ended.',
    labelNames: ['name'] as const,
    registers,
  });
  new Gauge({
    name: 'fairlead_agent_audit_entries',
    help: 'Entries of the audit history.',
    registers,
    collect() {
      if (read) this.set(read.auditEntries());
    },
  });
  new Gauge({
    name: 'fairlead_agent_audit_broken',
    help: '1 when the audit history is not what was written, or cannot be written.',
    registers,
    collect() {
      if (read) this.set(Number(read.auditBroken()));
    },
  });
  new Gauge({
    name: 'fairlead_agent_drift',
    help: 'Files and sysctls that are no longer as operations wrote them.',
    registers,
    collect() {
      if (read) this.set(read.drifted());
    },
  });
  new Gauge({
    name: 'fairlead_agent_cluster_ready',
    help: '1 when the cluster of this machine is ready, 0 when it is not; absent without one.',
    registers,
    collect() {
      const ready = read?.ready();
      this.reset();
      if (ready !== undefined) this.set(Number(ready));
    },
  });
  const counted = new Set<string>();

  return {
    watch(numbers) {
      read = numbers;
    },
    request({ clusterType, version, code, method, path, seconds }) {
      requests.observe({ cluster_type: clusterType, version, code: String(code), method, path }, seconds);
    },
    operation({ id, type, phase, startedAt, endedAt, steps: done }) {
      // The end of an operation may be told twice.
      if (counted.has(id)) return;
      counted.clear();
      counted.add(id);
      const result = phase === 'Succeeded' ? 'Succeeded' : 'Failed';
      operations.inc({ type, result });
      for (const status of ['Succeeded', 'Failed']) installation.set({ action: type, status }, Number(status === result));
      const seconds = secondsBetween(startedAt, endedAt);
      if (seconds !== undefined) durations.observe({ type, result }, seconds);
      for (const step of done) {
        const took = step.state === 'Done' ? secondsBetween(step.startedAt, step.endedAt) : undefined;
        if (took !== undefined) steps.observe({ type, step: step.name }, took);
      }
    },
    certificates(certificates) {
      days.reset();
      for (const { name, expiryDate } of certificates) {
        const at = Date.parse(expiryDate);
        if (Number.isFinite(at)) days.set({ name }, Math.floor((at - Date.now()) / 86_400_000));
      }
    },
  };
}

function secondsBetween(from: string | undefined, to: string | undefined): number | undefined {
  const seconds = (Date.parse(to ?? '') - Date.parse(from ?? '')) / 1_000;
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}
