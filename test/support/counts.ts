/** Whether the long run of `make attacks` was asked for (environment variable FAIRLEAD_ATTACKS, any value). */
export const longRun = (process.env['FAIRLEAD_ATTACKS'] ?? '') !== '';

/** How often something is done: `ci` times in `make test`, `full` times in `make attacks`. */
export const times = (ci: number, full: number): number => (longRun ? full : ci);

/** Limit for a test in milliseconds, which grows with the counts of the long run. */
export const limit = (ci: number, full: number): number => (longRun ? full : ci);
