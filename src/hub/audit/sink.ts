import type { ChainNote, Position } from './chain.ts';

/** What was found when the destination was opened: where the chain goes on, and what has to be said about it in the chain. */
export type Found = { position: Position; notes: ChainNote[] };

/** Where the lines go. Its functions are called one after the other, never at the same time. All reject with the system's error. */
export type Sink = {
  /** Opens it, or looks whether it is still the same. `known` is the last line sealed by this process. */
  ready(known: Position | undefined): Promise<Found>;
  /** Puts whole lines out. After a rejection it is called again with the same bytes, and nothing of them comes twice. */
  append(lines: Buffer): Promise<void>;
  /** Makes durable what is out and remembers that the chain has come so far. */
  settle(position: Position): Promise<void>;
  /** Lets go of the destination, so that the next `ready` opens it anew. */
  release(): Promise<void>;
};
