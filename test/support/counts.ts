import { randomInt } from 'node:crypto';

/** Whether the long run of `make attacks` was asked for (environment variable FAIRLEAD_ATTACKS, any value). */
export const longRun = (process.env['FAIRLEAD_ATTACKS'] ?? '') !== '';

/** How often something is done: `ci` times in `make test`, `full` times in `make attacks`. */
export const times = (ci: number, full: number): number => (longRun ? full : ci);

/** Limit for a test in milliseconds, which grows with the counts of the long run. */
export const limit = (ci: number, full: number): number => (longRun ? full : ci);

/**
 * Seed of everything that a test draws at random. In `make test` it is always the same, so that a commit which passed once passes again; `make attacks`
 * draws a new one each time, to find what nobody thought of. FAIRLEAD_SEED gives one, as a whole number, to repeat a run.
 */
export const seed = Number(process.env['FAIRLEAD_SEED'] ?? (longRun ? randomInt(2 ** 31) : 42));

/**
 * A function that draws whole numbers from 0 to below its argument (at most 2^32), the same ones in each run with the same seed. The generator is
 * mulberry32 (public domain, Tommy Ettinger).
 */
export function drawing(): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
