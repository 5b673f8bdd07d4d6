import { randomBytes, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { isValidAt, parseBundle } from './bundle.ts';
import type { ServingPair } from './serving.ts';

/** Clocks differ: a certificate is valid from a little before it was made. */
const BACKDATE_MS = 5 * 60_000;
const CA_PREFIX = 'fairlead-hub-ca-';
/** Enough for the one in use, the next one, and two that a slow replica may still serve with. */
const MAX_CAS = 4;

/** A serving pair and the CA (PEM) that signed it. The CA's key is thrown away: every rotation makes a new CA, so there is none to steal. */
export async function generateServing(options: {
  names: readonly string[];
  validityMs: number;
  now: Date;
}): Promise<{ pair: ServingPair; ca: string }> {
  // Most replicas find a good certificate in the Secret and need no writer, which takes 8 MiB.
  const { issueCertificate } = await import('./x509.ts');
  const { names, validityMs, now } = options;
  const dates = { notBefore: new Date(now.getTime() - BACKDATE_MS), notAfter: new Date(now.getTime() + validityMs) };
  const ca = issueCertificate({ ...dates, commonName: `${CA_PREFIX}${randomBytes(6).toString('hex')}`, ca: true });
  const leaf = issueCertificate({ ...dates, commonName: names[0] ?? 'localhost', altNames: names, usages: ['serverAuth'], issuer: ca });
  return { pair: leaf, ca: ca.cert };
}

/** When two thirds of a certificate's life are over, in milliseconds since the epoch. */
export function rotationTime(cert: string): number {
  const leaf = new X509Certificate(cert);
  const made = leaf.validFromDate.getTime() + BACKDATE_MS;
  return made + ((leaf.validToDate.getTime() - made) * 2) / 3;
}

/** Names of the certificate; empty when it has none. */
export function namesOf(cert: string): string[] {
  const names = new X509Certificate(cert).subjectAltName?.split(', ') ?? [];
  return names.map((name) => name.replace(/^(DNS|IP Address):/, ''));
}

/** Whether the certificate stands for each of the names. */
export function coversNames(cert: string, names: readonly string[]): boolean {
  const leaf = new X509Certificate(cert);
  const present = new Set(namesOf(cert).map((name) => name.toLowerCase()));
  return names.every((name) => (isIP(name) ? leaf.checkIP(name) !== undefined : present.has(name.toLowerCase())));
}

/** Whether the certificate is valid now and signed by one of the bundle. */
export function isServable(cert: string, caBundle: string, now: Date): boolean {
  const leaf = new X509Certificate(cert);
  return isValidAt(leaf, now) && parseBundle(caBundle).some((ca) => leaf.checkIssued(ca) && leaf.verify(ca.publicKey));
}

/**
 * `wanted` plus those of `present` that the hub made and that are still valid, newest first, PEM. A replica that is behind thus never takes away the CA of a newer
 * certificate. CAs of others are left out: nobody else may vouch for this API.
 */
export function mergeBundles(wanted: string, present: string, now: Date): string {
  const first = parseBundle(wanted);
  const known = new Set(first.map((ca) => ca.fingerprint256));
  const others = readable(present)
    .filter((ca) => !known.has(ca.fingerprint256) && ca.subject.startsWith(`CN=${CA_PREFIX}`) && isValidAt(ca, now))
    .toSorted((a, b) => b.validFromDate.getTime() - a.validFromDate.getTime());
  return [...first, ...others.slice(0, Math.max(0, MAX_CAS - first.length))].map((ca) => ca.toString()).join('');
}

/** Whether every CA of `wanted` is in `present`. */
export function includesBundle(present: string, wanted: string): boolean {
  const there = new Set(readable(present).map((ca) => ca.fingerprint256));
  return parseBundle(wanted).every((ca) => there.has(ca.fingerprint256));
}

function readable(bundle: string): X509Certificate[] {
  try {
    return parseBundle(bundle);
  } catch {
    return [];
  }
}
