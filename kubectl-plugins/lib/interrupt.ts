/** The reason of the signal after Ctrl-C or SIGTERM. */
export class Interrupted extends Error {
  constructor() {
    super('interrupted');
  }
}

/** A signal that fires on the first Ctrl-C or SIGTERM. `release` gives the signals back to the system. */
export function onInterrupt(): { signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const interrupt = () => controller.abort(new Interrupted());
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  return {
    signal: controller.signal,
    release() {
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', interrupt);
    },
  };
}
