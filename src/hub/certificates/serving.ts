/** A certificate chain (leaf first) and its private key, both PEM. */
export type ServingPair = { cert: string; key: string };

/** Where the listener takes its certificate from. `current()` never goes back to an older pair. */
export type ServingCertificate = {
  current(): ServingPair;
  /** Called after each change with the new pair, until the signal is aborted. */
  onChange(listener: (pair: ServingPair) => void, signal: AbortSignal): void;
};

/** One that somebody keeps up to date. `problem()`: why that does not work; undefined while all is well. */
export type KeptCertificate = ServingCertificate & { problem(): string | undefined };
