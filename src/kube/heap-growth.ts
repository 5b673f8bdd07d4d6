import { performance } from 'node:perf_hooks';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { collector } from './memory.ts';

/** Garbage that may stand beside what is alive before all of it is looked through. */
const SLACK_BYTES = 80 * 1024 * 1024;
const [LEAST_PERCENT, MOST_PERCENT] = [50, 1_000];
const LOOK_MS = 10_000;
/** Below this share of the event loop's time the process is idle: a thousand quiet tunnels take up to a tenth. */
const IDLE = 0.2;
/** What an idle process may gather before it is collected. */
const GATHERED_BYTES = 12 * 1024 * 1024;

const heldBytes = () => {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

/**
 * Lets more garbage pile up between two collections of the whole heap. V8 counts the buffers that pass through a proxy against the limit of the old generation, and that limit is a few megabytes
 * above what is alive: carrying 200 MB through took 35 collections of a heap of 21 MB, and more processor time than everything else. Measured with this: none, and half the time.
 * The flag is read by V8 each time it sets the limit, so it may change while the process runs: the larger the heap, the smaller the factor. A process with nothing to do would keep that
 * garbage for hours: it is collected then.
 */
export function tuneHeapGrowth(): void {
  const collect = collector();
  let percent = 0;
  let kept = 0;
  let since = performance.eventLoopUtilization();
  const tidy = () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, since);
    since = now;
    if (utilization > IDLE || heldBytes() - kept < GATHERED_BYTES) return;
    collect();
    kept = heldBytes();
  };
  const look = () => {
    const wanted = Math.round(Math.min(Math.max((100 * SLACK_BYTES) / getHeapStatistics().used_heap_size, LEAST_PERCENT), MOST_PERCENT));
    if (Math.abs(wanted - percent) <= percent / 5) return;
    percent = wanted;
    setFlagsFromString(`--heap-growing-percent=${percent}`);
  };
  look();
  // For as long as the process lives; it does not keep it alive.
  setInterval(() => {
    tidy();
    look();
  }, LOOK_MS).unref();
}
