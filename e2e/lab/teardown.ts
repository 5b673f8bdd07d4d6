export type Teardown = {
  defer(undo: () => Promise<void> | void): void;
  /** Runs everything, newest first, also past errors; a second call waits for the first. Rejects with what failed. */
  run(): Promise<void>;
};

/** Collects what has to be undone, in order. What is deferred while it runs, or afterwards, is undone too. */
export function createTeardown(): Teardown {
  const undos: Array<() => Promise<void> | void> = [];
  let running: Promise<void> | undefined;

  async function drain(): Promise<void> {
    const errors: unknown[] = [];
    for (let undo = undos.pop(); undo; undo = undos.pop()) {
      try {
        await undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `taking the lab down: ${errors.map(String).join('; ')}`);
  }

  return {
    defer(undo) {
      undos.push(undo);
      if (running) running = running.then(drain);
    },
    run() {
      running ??= drain();
      return running;
    },
  };
}
