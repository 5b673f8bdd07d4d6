import { randomBytes, X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../../../kube/client.ts';
import { isValidAt, parseBundle } from '../../certificates/bundle.ts';
import { certificateSecret, type StoredCertificate } from '../../certificates/certificate-secret.ts';
import { isFromAuthority, peerUri } from './identity.ts';

/** What a replica proves itself with, and the CAs (a bundle) that it believes. All PEM. */
export type PeerCredentials = { cert: string; key: string; ca: string };

export type PeerAuthority = {
  /** undefined until the authority's Secret has been read or made. */
  current(): PeerCredentials | undefined;
  /** Called after each change of the certificate or of the bundle, until the signal is aborted. */
  onChange(listener: (credentials: PeerCredentials) => void, signal: AbortSignal): void;
  /** Why the last look at the Secret failed; undefined when all is well. */
  problem(): string | undefined;
};

export type PeerAuthorityOptions = {
  client: KubeClient;
  namespace: string;
  /** Secret that all replicas share; the hub may `create` Secrets, and `get` and `patch` this one. */
  secret: string;
  /** Name of this replica, unique among all. */
  identity: string;
  signal: AbortSignal;
  /** Each new problem once, as text for the log. */
  onProblem?: (problem: string) => void;
  /** Life of the CA. Default 90 days. */
  authorityMs?: number;
  /** Life of a replica's certificate. Default 24 h. */
  certificateMs?: number;
  /** Between two looks at the Secret. Default 30 s, at most a twentieth of the CA's life. */
  pollMs?: number;
};

const HOUR_MS = 3_600_000;
/** Clocks differ: a certificate is valid from a little before it was made. */
const BACKDATE_MS = 5 * 60_000;
/** The one in use, the next one, and two whose certificates may still be about. */
const MAX_CAS = 4;
/** Looks at the Secret that every replica gets before a new CA signs. */
const SETTLE_POLLS = 3;

type Pair = { cert: string; key: string };

/**
 * The authority by which replicas know each other: a CA that only the hub has, in a Secret that whichever replica comes first makes (its resourceVersion decides).
 * Each replica signs its own short-lived certificate and renews it after two thirds of its life. The CA is replaced likewise: the next one stands in the bundle
 * for some looks of everybody before it signs, and the old one stays there until it ends. A CA that is taken out of the Secret counts no more.
 */
export function peerAuthority(options: PeerAuthorityOptions): PeerAuthority {
  const { client, namespace, identity, signal, authorityMs = 90 * 24 * HOUR_MS, certificateMs = 24 * HOUR_MS } = options;
  const pollMs = options.pollMs ?? Math.min(30_000, authorityMs / 20);
  const secret = certificateSecret(client, namespace, options.secret, signal);
  const listeners = new Set<(credentials: PeerCredentials) => void>();
  let current: PeerCredentials | undefined;
  let problem: string | undefined = 'the Secret has not been read yet';
  let next: { cert: string; since: number } | undefined;

  async function issue(lifeMs: number, signer?: Pair): Promise<Pair> {
    // Takes 8 MiB, so only who makes a certificate loads it.
    const { issueCertificate } = await import('../../certificates/x509.ts');
    const now = Date.now();
    const end = signer ? Math.min(now + lifeMs, new X509Certificate(signer.cert).validToDate.getTime()) : now + lifeMs;
    const dates = { notBefore: new Date(now - BACKDATE_MS), notAfter: new Date(end) };
    if (!signer) return issueCertificate({ ...dates, commonName: `fairlead-hub-peers-${randomBytes(6).toString('hex')}`, ca: true });
    const uris = [peerUri(namespace, identity)];
    return issueCertificate({ ...dates, commonName: 'fairlead-hub-peer', uris, usages: ['clientAuth', 'serverAuth'], issuer: signer });
  }

  async function adopt(signer: Pair, bundle: string): Promise<void> {
    const isGood =
      current !== undefined && isFromAuthority(new X509Certificate(current.cert), signer.cert) && Date.now() < dueTime(current.cert);
    const pair = current && isGood ? current : await issue(certificateMs, signer);
    if (pair === current && bundle === current.ca) return;
    const credentials = { cert: pair.cert, key: pair.key, ca: bundle };
    current = credentials;
    for (const listener of listeners) listener(credentials);
  }

  /** One step. Milliseconds until the next one is due. */
  async function step(): Promise<number> {
    const stored = await secret.read();
    if (!stored) {
      const made = await issue(authorityMs);
      await secret.create({ serving: made, caBundle: made.cert });
      return 0;
    }
    const { serving, caBundle } = stored;
    if (!serving || !canSign(serving, caBundle)) {
      const made = await issue(authorityMs);
      await secret.change(stored, { serving: made, next: null, caBundle: bundleWith(made.cert, stored) });
      return 0;
    }
    await adopt(serving, caBundle);
    if (!stored.next || !canSign(stored.next, caBundle)) {
      next = undefined;
      if (Date.now() < dueTime(serving.cert)) return pollMs;
      const made = await issue(authorityMs);
      await secret.change(stored, { next: made, caBundle: bundleWith(made.cert, stored) });
      return 0;
    }
    if (next?.cert !== stored.next.cert) next = { cert: stored.next.cert, since: performance.now() };
    // Everybody has looked several times since the new CA was put into the bundle: nobody meets a certificate of a CA that it does not know.
    if (performance.now() - next.since < SETTLE_POLLS * pollMs) return pollMs;
    await secret.change(stored, { serving: stored.next, next: null });
    return 0;
  }

  async function run(): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      let pause: number;
      try {
        const until = await step();
        const renewal = current ? Math.max(50, dueTime(current.cert) - Date.now()) : pollMs;
        pause = Math.min(until, renewal);
        problem = current ? undefined : problem;
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        const said = `the Secret ${namespace}/${options.secret}: ${error instanceof Error ? error.message : String(error)}`;
        if (said !== problem) options.onProblem?.(said);
        problem = said;
        pause = Math.min(250 * 2 ** Math.min(failures++, 8), pollMs, 10_000);
      }
      await sleep(pause, undefined, { signal }).catch(() => undefined);
    }
  }
  run().catch((error: unknown) => options.onProblem?.(String(error)));

  return {
    current: () => current,
    onChange(listener, until) {
      if (until.aborted) return;
      listeners.add(listener);
      until.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
    problem: () => problem,
  };
}

/** When two thirds of a certificate's life are over. */
function dueTime(cert: string): number {
  const { validFromDate, validToDate } = new X509Certificate(cert);
  const made = validFromDate.getTime() + BACKDATE_MS;
  return made + ((validToDate.getTime() - made) * 2) / 3;
}

/** Whether the pair is a CA, valid now, that everybody believes. */
function canSign(pair: Pair, bundle: string): boolean {
  const ca = new X509Certificate(pair.cert);
  return ca.ca && isValidAt(ca, new Date()) && parseBundle(bundle).some((known) => known.fingerprint256 === ca.fingerprint256);
}

/** The new CA first, then those of before that are still valid, newest first. */
function bundleWith(cert: string, { caBundle }: StoredCertificate): string {
  const now = new Date();
  const before = parseBundle(caBundle).filter((ca) => isValidAt(ca, now));
  return [new X509Certificate(cert), ...before]
    .slice(0, MAX_CAS)
    .map((ca) => ca.toString())
    .join('');
}
