/**
 * What hub and agent are given to Node.js beside their own flags, wherever they run: executable, image, systemd unit, tests and measurements. V8 would let the young generation grow to
 * 128 MiB on a machine with much memory, which a proxy fills with buffers and headers within a second and never gives back; with 16 MiB for each half the hub's peak is 90 MiB
 * lower, at the same rate.
 */
export const NODE_FLAGS: readonly string[] = ['--max-semi-space-size=16'];
