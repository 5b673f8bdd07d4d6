import type { StatusCause } from '../../../../kube/status.ts';

/** A version of Kubernetes, taken apart. `build` is what follows the patch: `+k3s1`, or empty. */
export type Version = { major: number; minor: number; patch: number; build: string };

const PATTERN = /^v?(\d{1,3})\.(\d{1,4})\.(\d{1,4})(\+[0-9A-Za-z.-]{1,32})?$/;

/** Reads `v1.36.3`, `1.36.3` or `v1.36.3+k3s1`; undefined for anything else (pre-releases too: no official images of them are kept). */
export function parseVersion(text: string): Version | undefined {
  const match = PATTERN.exec(text);
  if (!match) return undefined;
  return { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]), build: match[4] ?? '' };
}

/** `v1.36.3`: the form of tags, folders and of kubeadm's own output. What is no version stays as it is. */
export function canonicalVersion(text: string): string {
  const version = parseVersion(text);
  return version ? `v${version.major}.${version.minor}.${version.patch}${version.build}` : text;
}

/** Number of a build, as in +k3s2; 0 without one. */
const buildNumber = (version: Version) => Number(/(\d+)$/.exec(version.build)?.[1] ?? 0);

/** Negative when `a` is older, 0 when they are the same, positive when it is newer. */
export function compareVersions(a: Version, b: Version): number {
  return a.major - b.major || a.minor - b.minor || a.patch - b.patch || buildNumber(a) - buildNumber(b);
}

/**
 * Whether a cluster may go from one version to another: to a later patch of its minor, or to the next minor. Empty: it may. The same version is no upgrade and no error.
 * Source: https://kubernetes.io/releases/version-skew-policy/ (kubeadm upgrades one minor at a time; nothing goes back).
 */
export function validateUpgrade(from: string, to: string, field = 'spec.version'): StatusCause[] {
  const refuse = (message: string): StatusCause[] => [{ reason: 'FieldValueInvalid', field, message }];
  const old = parseVersion(from);
  const wanted = parseVersion(to);
  if (!wanted) return refuse(`${to} is not a version: expected a form like v1.36.3`);
  if (!old) return refuse(`the version that runs, ${from}, is not known to this agent, so the way to ${to} is not either`);
  const order = compareVersions(wanted, old);
  if (order === 0) return [];
  if (order < 0) return refuse(`${to} is older than ${from}: going back is not possible, create the cluster anew`);
  if (wanted.major !== old.major) return refuse(`${to} is another major version than ${from}`);
  if (wanted.minor > old.minor + 1) {
    return refuse(`${to} is ${wanted.minor - old.minor} minor versions after ${from}: upgrade to v${old.major}.${old.minor + 1} first`);
  }
  return [];
}
