import { parseDuration } from '../../../kube/flags.ts';
import type { CertificateInfo, ClusterSpec } from '../../../kube/lifecycle.ts';
import type { StateFile } from '../state/state.ts';
import type { Reconciler } from './loops.ts';

const TIMEOUT_MS = 60_000;
const FIRST_RETRY_MS = 10 * 60_000;
const LONGEST_RETRY_MS = 24 * 3_600_000;
const DAY_MS = 86_400_000;
const DEFAULT_VALIDITY_MS = 365 * DAY_MS;

/** Certificate authorities are not renewed with the others: a new one would make every kubeconfig worthless. */
export const isAuthority = (name: string): boolean => /(^|[-_/ ])ca$/i.test(name);

/** How long before the end certificates are renewed: the threshold, and for those that live not much longer than that, the last third of their life. */
export function renewBefore(spec: ClusterSpec, thresholdMs: number): number {
  const validity = parseDuration(spec.certificates?.validityPeriod ?? '') ?? DEFAULT_VALIDITY_MS;
  return Math.min(thresholdMs, Math.floor(validity / 3));
}

/** Milliseconds between two looks, `mostMs` at most: a quarter of the time in which certificates are due, so that they do not end before they are seen, nor before a try that failed is repeated. */
const lookEvery = (spec: ClusterSpec, thresholdMs: number, mostMs: number): number =>
  Math.min(mostMs, Math.floor(renewBefore(spec, thresholdMs) / 4));

/** Watches the certificates of the control plane, and has them renewed before they end. */
export function certificateReconciler(given: {
  /** Between two looks, at most. */
  everyMs: number;
  thresholdMs: number;
  state: StateFile;
  certificates: (spec: ClusterSpec) => Promise<CertificateInfo[]>;
  seen: (certificates: readonly CertificateInfo[]) => void;
  now: () => Date;
  /** Begins the renewal. */
  renew: () => Promise<void>;
}): Reconciler {
  const { state, now } = given;
  // Doubles with each try that did not bring later certificates: a renewal that does not help must not stop the control plane again and again.
  let tries = 0;
  let notBefore = 0;

  return {
    name: 'cluster-certs-reconciler',
    everyMs() {
      const { spec } = state.get();
      return spec ? lookEvery(spec, given.thresholdMs, given.everyMs) : given.everyMs;
    },
    timeoutMs: TIMEOUT_MS,
    async run() {
      const { spec, installed } = state.get();
      if (!installed || !spec) {
        given.seen([]);
        [tries, notBefore] = [0, 0];
        return 'there is no cluster';
      }
      const certificates = await given.certificates(spec);
      given.seen(certificates);
      const first = earliest(certificates.filter(({ name }) => !isAuthority(name)));
      if (!first) {
        state.observe(
          [
            {
              type: 'CertificatesValid',
              status: 'Unknown',
              reason: 'NoneFound',
              message: 'No certificate was found.',
              severity: 'Warning',
            },
          ],
          now(),
        );
        return 'no certificate was found';
      }
      const left = first.at - now().getTime();
      const due = left <= renewBefore(spec, given.thresholdMs);
      const text = `${first.name} ends at ${new Date(first.at).toISOString()}`;
      state.observe(
        [
          {
            type: 'CertificatesValid',
            status: left > 0 ? 'True' : 'False',
            reason: left <= 0 ? 'Expired' : due ? 'Expiring' : 'Valid',
            message: due ? text : '',
            severity: left <= 0 ? 'Error' : due ? 'Warning' : '',
          },
        ],
        now(),
      );
      if (!due) {
        [tries, notBefore] = [0, 0];
        return text;
      }
      if (now().getTime() < notBefore) return `${text}; renewed again not before ${new Date(notBefore).toISOString()}`;
      const pauseMs = lookEvery(spec, given.thresholdMs, FIRST_RETRY_MS) * 2 ** tries;
      notBefore = now().getTime() + Math.min(LONGEST_RETRY_MS, pauseMs);
      tries++;
      await given.renew();
      return `${text}: renewing`;
    },
  };
}

function earliest(certificates: readonly CertificateInfo[]): { name: string; at: number } | undefined {
  return certificates
    .map(({ name, expiryDate }) => ({ name, at: Date.parse(expiryDate) }))
    .filter(({ at }) => Number.isFinite(at))
    .sort((a, b) => a.at - b.at)[0];
}
