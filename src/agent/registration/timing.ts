/** All in milliseconds. */
export type RegistrationTiming = {
  /** Between looks at a request that waits: at first, and at last. */
  pollMs: number;
  longestPollMs: number;
  /** After a failure: at first, and at last. */
  retryMs: number;
  longestRetryMs: number;
  /** How long one renewal may take until it is tried again. */
  renewalMs: number;
  /** A credential that was refused for so long is not used any more, but still tried. */
  takenBackMs: number;
};

export const TIMING: RegistrationTiming = {
  pollMs: 500,
  longestPollMs: 15_000,
  retryMs: 1_000,
  longestRetryMs: 60_000,
  renewalMs: 60_000,
  takenBackMs: 30_000,
};
