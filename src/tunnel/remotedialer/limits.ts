/** Figures of a session. Sizes in bytes, times in milliseconds. Tests make them smaller. */
export type Limits = {
  /** Open connections of one session. */
  connections: number;
  /** More than this waits for a reader: `Pause` is sent. Less than that: `Resume`. */
  pauseBytes: number;
  resumeBytes: number;
  /** What one connection holds at most for a peer that had the chance to pause. */
  connectionBytes: number;
  /**
   * What one connection holds at most when all of it may have been under way before the peer heard of the pause. An agent with v0.3.0 of the library
   * had 0.3 to 4 MiB under way on one and the same machine, most of it in the buffers of its socket.
   */
  underwayBytes: number;
  /** What all connections hold together. */
  sessionBytes: number;
  /** How long one connection may keep the whole session from reading before it is cut. */
  holdMs: number;
  /** What waits in our own websocket before connections wait for their turn to write. */
  writeBytes: number;
  /** Sent without being asked to (answers to the peer's frames) and not read by the peer: more ends the session. */
  unreadBytes: number;
  /** A peer that has taken nothing of what we sent for so long is gone. */
  unreadMs: number;
  /** Frames that lead nowhere: so many at once, and so many a second. */
  strayBurst: number;
  strayPerSecond: number;
  /** How long the agent tries to reach a target. */
  dialMs: number;
  /** The hub closed its half and the target says nothing more: so long until the connection is closed. */
  lingerMs: number;
  pingMs: number;
  /** Nothing heard for so long: the session ends. */
  silenceMs: number;
};

const KIB = 1024;
const MIB = 1024 * KIB;

export const LIMITS: Limits = {
  connections: 10_000,
  pauseBytes: 256 * KIB,
  resumeBytes: 64 * KIB,
  connectionBytes: MIB,
  underwayBytes: 8 * MIB,
  sessionBytes: 64 * MIB,
  holdMs: 750,
  writeBytes: 256 * KIB,
  unreadBytes: 4 * MIB,
  unreadMs: 30_000,
  strayBurst: 20_000,
  strayPerSecond: 2_000,
  dialMs: 60_000,
  lingerMs: 30_000,
  pingMs: 5_000,
  silenceMs: 10_000,
};
