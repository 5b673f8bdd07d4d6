/** Where binaries, packages and images come from. Every file is checked against its SHA-256 before anything can use it. */
export type ArtifactSource = {
  /** Forgets the index, so that the next question reads it anew. Called at the begin of each operation. */
  refresh(): void;
  /** Paths, relative to the source, that begin with `prefix`, sorted. Empty when there is no source. Rejects with StepError when the index cannot be read. */
  list(prefix: string): Promise<string[]>;
  /**
   * Puts a file at `to`, whole and verified or not at all, and resolves with its SHA-256 in hex. It may not outlive a power cut: what is to stay is copied from there, through to the disk.
   * Rejects with StepError: not there, wrong sum, source not reached.
   */
  fetch(relative: string, to: string, mode: number, signal: AbortSignal): Promise<string>;
};
