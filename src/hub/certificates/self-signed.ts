import { X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../../kube/client.ts';
import { trustBundle } from './api-service.ts';
import { certificateSecret, type StoredCertificate } from './certificate-secret.ts';
import { coversNames, generateServing, isServable, mergeBundles, namesOf, rotationTime } from './generate.ts';
import { pairHolder } from './pair-holder.ts';
import type { KeptCertificate, ServingPair } from './serving.ts';

export type SelfSignedOptions = {
  client: KubeClient;
  namespace: string;
  /** Name of the Service in front of the hub; part of the certificate's names. */
  service: string;
  secret: string;
  /** For example `v1.infraops.michael.io`. */
  apiServices: readonly string[];
  /** Further DNS names and IP addresses. */
  extraNames?: readonly string[];
  signal: AbortSignal;
  /** Life of a certificate in milliseconds. Default 90 days. */
  validityMs?: number;
  /** Milliseconds between the new CA standing in the APIServices and its certificate being used. Default 15 s, at most a twelfth of the life. */
  settleMs?: number;
  /** Each new problem once, as text for the log. */
  onProblem?: (problem: string) => void;
  /** Called when this replica has taken a pair into use; `notAfter` is its end. */
  onChange?: (notAfter: Date) => void;
};

const DAY_MS = 86_400_000;

/**
 * A serving certificate that the replicas make, share in a Secret and rotate when two thirds of its life are over (a little earlier, by chance, so that seldom two
 * replicas do it together; the Secret's resourceVersion decides). A rotation: the new pair and its CA are put aside in the Secret; both CAs
 * are put into the APIServices; after `settleMs` the new pair becomes the one in use. So kube-aggregator trusts a certificate before it meets it.
 * Resolves when there is a certificate; `problem()` says why it cannot be kept or trusted. Tries until the signal is aborted, then rejects.
 */
export async function selfSignedCertificate(options: SelfSignedOptions): Promise<KeptCertificate> {
  const { client, namespace, service, apiServices, signal, validityMs = 90 * DAY_MS } = options;
  const settleMs = options.settleMs ?? Math.min(15_000, validityMs / 12);
  const pollMs = Math.min(30_000, validityMs / 20);
  const jitterMs = (Math.random() * validityMs) / 20;
  const names = [
    ...new Set([
      `${service}.${namespace}.svc`,
      `${service}.${namespace}.svc.cluster.local`,
      service,
      'localhost',
      ...(options.extraNames ?? []),
    ]),
  ];
  const secret = certificateSecret(client, namespace, options.secret, signal);
  const first = Promise.withResolvers<ServingPair>();
  let holder: ReturnType<typeof pairHolder> | undefined;
  let problem: string | undefined;
  let trusted: { bundle: string; since: number } | undefined;

  function report(next: string | undefined): void {
    if (next !== undefined && next !== problem) options.onProblem?.(next);
    problem = next;
  }

  /** New material; it keeps the names of the certificate before it, or replicas of two versions with different names would replace each other's for ever. */
  async function renew(stored: StoredCertificate | undefined): Promise<{ pair: ServingPair; caBundle: string }> {
    const now = new Date();
    const before = stored?.serving ? namesOf(stored.serving.cert) : [];
    const { pair, ca } = await generateServing({ names: [...new Set([...names, ...before])], validityMs, now });
    return { pair, caBundle: mergeBundles(ca, stored?.caBundle ?? '', now) };
  }

  async function trust(bundle: string): Promise<boolean> {
    try {
      const missing: string[] = [];
      for (const name of apiServices) if (!(await trustBundle(client, name, bundle, signal))) missing.push(name);
      report(
        missing.length > 0
          ? `APIService ${missing.join(', ')} does not exist yet (or has no service): kube-aggregator does not know this hub`
          : undefined,
      );
      if (trusted?.bundle !== bundle) trusted = { bundle, since: performance.now() };
      return true;
    } catch (error) {
      report(`the CA bundle cannot be written into the APIServices: ${text(error)}`);
      return false;
    }
  }

  function adopt(pair: ServingPair): void {
    if (holder?.current().cert === pair.cert) return;
    if (holder) holder.replace(pair);
    else {
      holder = pairHolder(pair);
      first.resolve(pair);
    }
    options.onChange?.(new Date(endOf(pair)));
  }

  /** One step towards a good certificate. Milliseconds until the next one is due. */
  async function step(): Promise<number> {
    const stored = await secret.read();
    const now = Date.now();
    if (!stored) {
      const { pair, caBundle } = await renew(undefined);
      await secret.create({ serving: pair, caBundle });
      return 0;
    }
    const { serving, next, caBundle } = stored;
    if (!serving || !isServable(serving.cert, caBundle, new Date(now))) {
      const made = await renew(stored);
      await secret.change(stored, { serving: made.pair, next: null, caBundle: made.caBundle });
      return 0;
    }
    const due = rotationTime(serving.cert) - jitterMs;
    const isNextGood = next !== undefined && isServable(next.cert, caBundle, new Date(now));
    if (!isNextGood && (now >= due || !coversNames(serving.cert, names))) {
      const made = await renew(stored);
      await secret.change(stored, { next: made.pair, caBundle: made.caBundle });
      return 0;
    }
    const isTrusted = await trust(caBundle);
    // Without a certificate, or with one that is over, waiting for the APIServices helps nobody.
    if (isTrusted || !holder || endOf(holder.current()) <= now) adopt(serving);
    if (!isTrusted) return Math.min(pollMs, 2_000);
    if (!isNextGood || !trusted) return Math.max(250, Math.min(pollMs, due - now));
    const left = trusted.since + settleMs - performance.now();
    if (left > 0) return Math.min(pollMs, left);
    await secret.change(stored, { serving: next, next: null });
    return 0;
  }

  async function run(): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      let pause: number;
      try {
        pause = await step();
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        report(`the serving certificate's Secret ${namespace}/${options.secret}: ${text(error)}`);
        pause = Math.min(500 * 2 ** failures++, pollMs, 10_000);
      }
      await sleep(pause, undefined, { signal }).catch(() => undefined);
    }
    first.reject(signal.reason);
  }

  run().catch((error: unknown) => first.reject(error));
  await first.promise;
  if (!holder) throw new Error('no serving certificate');
  return { current: holder.current, onChange: holder.onChange, problem: () => problem };
}

const text = (error: unknown) => (error instanceof Error ? error.message : String(error));
const endOf = (pair: ServingPair) => new X509Certificate(pair.cert).validToDate.getTime();
