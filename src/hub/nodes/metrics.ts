import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { type CallContext, type Cloud, CloudError } from './clouds/cloud.ts';

/** Metrics of node operations. Labels take few values: no node names. */
export type NodeMetrics = {
  operations: Counter<'action' | 'cloud' | 'result'>;
  duration: Histogram<'action' | 'result'>;
  active: Gauge;
  refusals: Counter<'guard' | 'action'>;
  cloudCalls: Histogram<'cloud' | 'call' | 'result'>;
};

export function nodeMetrics(registry: Registry): NodeMetrics {
  const registers = [registry];
  return {
    operations: new Counter({
      name: 'fairlead_node_operations_total',
      help: 'Ended node operations.',
      labelNames: ['action', 'cloud', 'result'],
      registers,
    }),
    duration: new Histogram({
      name: 'fairlead_node_operation_duration_seconds',
      help: 'From the start of a node operation to its end.',
      labelNames: ['action', 'result'],
      buckets: [5, 15, 30, 60, 120, 300, 600, 1200, 3600],
      registers,
    }),
    active: new Gauge({ name: 'fairlead_node_operations_active', help: 'Node operations that this replica runs.', registers }),
    refusals: new Counter({
      name: 'fairlead_node_guard_refusals_total',
      help: 'Refusals by guards, also those that force has skipped.',
      labelNames: ['guard', 'action'],
      registers,
    }),
    cloudCalls: new Histogram({
      name: 'fairlead_cloud_call_duration_seconds',
      help: "Calls of clouds' APIs; result is ok or the kind of the error.",
      labelNames: ['cloud', 'call', 'result'],
      buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
  };
}

/** The same cloud, with each call timed and counted. */
export function measuredCloud(cloud: Cloud, metrics: NodeMetrics): Cloud {
  const timed = async <T>(call: string, work: () => Promise<T>): Promise<T> => {
    const began = performance.now();
    let result = 'ok';
    try {
      return await work();
    } catch (error) {
      result = error instanceof CloudError ? error.kind : 'Error';
      throw error;
    } finally {
      metrics.cloudCalls.observe({ cloud: cloud.name, call, result }, (performance.now() - began) / 1000);
    }
  };
  return {
    name: cloud.name,
    hardRestart: cloud.hardRestart,
    describe: (ref, context) => timed('describe', () => cloud.describe(ref, context)),
    restart: (ref, options, context: CallContext) => timed('restart', () => cloud.restart(ref, options, context)),
    stop: (ref, options, context: CallContext) => timed('stop', () => cloud.stop(ref, options, context)),
    start: (ref, options, context: CallContext) => timed('start', () => cloud.start(ref, options, context)),
  };
}
