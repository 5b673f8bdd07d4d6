import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';

/** prom-client's own sampler, which takes 10 ms, wakes a process a hundred times a second: most of what an idle agent would cost. */
const RESOLUTION_MS = 100;

const SERIES = ['min', 'max', 'mean', 'p50', 'p90', 'p99'] as const;

/**
 * Replaces prom-client's `nodejs_eventloop_lag_{min,max,mean,p50,p90,p99}_seconds` in `registry` by series of the same names, in seconds since the last scrape. A sample of
 * Node.js is the whole time between two ticks of its sampler; prom-client reports it as it is, so that an idle process seems to lag by the resolution. Here it is taken off.
 */
export function eventLoopLag(registry: Registry): void {
  const ticks = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  ticks.enable();
  /** Nanoseconds to seconds; no tick since the last scrape (NaN, or more than can be) is no lag. */
  const lag = (nanoseconds: number) => (ticks.count === 0 ? 0 : Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1_000));
  const read = {
    min: () => lag(ticks.min),
    max: () => lag(ticks.max),
    mean: () => lag(ticks.mean),
    p50: () => lag(ticks.percentile(50)),
    p90: () => lag(ticks.percentile(90)),
    p99: () => lag(ticks.percentile(99)),
  };
  const gauges = SERIES.map((series, index) => {
    const name = `nodejs_eventloop_lag_${series}_seconds`;
    registry.removeSingleMetric(name);
    return new Gauge({
      name,
      help: `The event loop's lag since the last scrape (${series}), sampled every ${RESOLUTION_MS} ms.`,
      registers: [registry],
      // prom-client asks every metric at once, in order: the first reads for all, and starts the next interval.
      ...(index === 0 && {
        collect() {
          for (const [at, each] of SERIES.entries()) gauges[at]?.set(read[each]());
          ticks.reset();
        },
      }),
    });
  });
}
