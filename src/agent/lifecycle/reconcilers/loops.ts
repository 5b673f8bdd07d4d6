/** Something that is looked at again and again. */
export type Reconciler = {
  name: string;
  /** Milliseconds between two looks; asked after each. */
  everyMs: number | (() => number);
  /** For one look; it is broken off then. */
  timeoutMs: number;
  /** What was found, in a few words. */
  run(signal: AbortSignal): Promise<string>;
};

export type Loops = {
  status(): { name: string; status: string }[];
  /** Looks at once, or as soon as the look that runs has ended. */
  poke(name: string): void;
  /** Resolves when no look runs any more. */
  stop(): Promise<void>;
};

/** Runs each reconciler in its own time, one look of each at a time, and none while `busy`. The first looks are at once. */
export function reconcilerLoops(
  reconcilers: readonly Reconciler[],
  given: { busy: () => boolean; onError: (error: unknown) => void },
): Loops {
  const stopping = new AbortController();
  const loops = reconcilers.map((reconciler) => loop(reconciler, given, stopping.signal));
  return {
    status: () => loops.map(({ name, status }) => ({ name, status: status() })),
    poke(name) {
      loops.find((one) => one.name === name)?.poke();
    },
    async stop() {
      stopping.abort();
      await Promise.all(loops.map(({ ended }) => ended));
    },
  };
}

function loop(reconciler: Reconciler, { busy, onError }: { busy: () => boolean; onError: (error: unknown) => void }, signal: AbortSignal) {
  const { name, everyMs, timeoutMs } = reconciler;
  let status = 'waiting for its first look';
  let wake = Promise.withResolvers<void>();
  let poked = false;
  let lastError = '';

  async function look(): Promise<void> {
    if (busy()) {
      status = 'waiting: an operation runs';
      return;
    }
    try {
      status = await reconciler.run(AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]));
      lastError = '';
    } catch (error) {
      if (signal.aborted) return;
      const why = error instanceof Error ? error.message : String(error);
      status = `failed: ${why}`;
      // The same trouble every ten seconds is one line in the log.
      if (why !== lastError) onError(error);
      lastError = why;
    }
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      poked = false;
      await look();
      if (poked || signal.aborted) continue;
      const timer = setTimeout(() => wake.resolve(), typeof everyMs === 'number' ? everyMs : everyMs());
      await wake.promise;
      clearTimeout(timer);
      wake = Promise.withResolvers<void>();
    }
  }
  const poke = () => {
    poked = true;
    wake.resolve();
  };
  signal.addEventListener('abort', poke, { once: true });
  return { name, status: () => status, poke, ended: run().catch(onError) };
}
