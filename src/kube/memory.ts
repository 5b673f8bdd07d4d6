import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

/** Milliseconds of quiet before memory is given back. */
const QUIET_MS = 3_000;

/** Collects everything at once and gives pages back to the system: tens of milliseconds. */
export function collector(): () => void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as Collect;
  return () => collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/**
 * Gives memory back to the system a while after the last call. V8 keeps what a burst has taken (reading 5,000 nodes, 500 operations at once) for as long as
 * nothing else wants it, and a hub is idle for most of its life: a collection of some tens of milliseconds, when nothing runs, halves what it holds.
 */
export function memoryReliever(signal: AbortSignal): () => void {
  const collect = collector();
  let timer: NodeJS.Timeout | undefined;
  signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  return () => {
    clearTimeout(timer);
    if (signal.aborted) return;
    timer = setTimeout(collect, QUIET_MS);
    timer.unref();
  };
}
