/**
 * What must be undone when the process ends before it was undone in order: each entry is a synchronous function, run newest first
 * by `process.exit`, an uncaught error, SIGINT, SIGTERM or SIGHUP.
 */
const entries = new Set<() => void>();
const signals = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

function undoAll(): void {
  for (const undo of [...entries].reverse()) {
    entries.delete(undo);
    try {
      undo();
    } catch (error) {
      process.stderr.write(`cleaning up: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
}

function onSignal(signal: NodeJS.Signals): void {
  // A program with a handler of its own (the demo) stops its labs itself and in order.
  if (process.listenerCount(signal) > 1) return;
  process.exit(128 + signals[signal as keyof typeof signals]);
}

function listen(): void {
  process.on('exit', undoAll);
  for (const signal of Object.keys(signals)) process.on(signal as NodeJS.Signals, onSignal);
}

function unlisten(): void {
  process.off('exit', undoAll);
  for (const signal of Object.keys(signals)) process.off(signal as NodeJS.Signals, onSignal);
}

/** Registers `undo` and returns the function that takes it back (idempotent), for when it was done in order. */
export function undoAtExit(undo: () => void): () => void {
  if (entries.size === 0) listen();
  entries.add(undo);
  return () => {
    if (entries.delete(undo) && entries.size === 0) unlisten();
  };
}
