import { X509Certificate } from 'node:crypto';
import { Gauge, type Registry } from 'prom-client';
import type { ServingPair } from './serving.ts';

/** Metrics of the serving certificate: from both, an alert knows which part of its life is left. `current` is asked when metrics are read. */
export function certificateMetrics(registry: Registry, current: () => ServingPair): void {
  const dates = [
    ['not_before', 'Beginning', (leaf: X509Certificate) => leaf.validFromDate],
    ['expiration', 'End', (leaf: X509Certificate) => leaf.validToDate],
  ] as const;
  for (const [what, word, date] of dates)
    new Gauge({
      name: `fairlead_hub_serving_certificate_${what}_timestamp_seconds`,
      help: `${word} of the validity of the serving certificate in use, in seconds since the epoch.`,
      registers: [registry],
      collect() {
        this.set(date(new X509Certificate(current().cert)).getTime() / 1_000);
      },
    });
}

/** For readyz: says that the certificate is over, and what kept it from being replaced. While it lasts the hub serves, so trouble before that is for the alert. */
export function certificateOver(
  certificate: { current(): ServingPair; problem(): string | undefined },
  now = new Date(),
): string | undefined {
  const { validToDate } = new X509Certificate(certificate.current().cert);
  if (now <= validToDate) return undefined;
  return `the serving certificate ended at ${validToDate.toISOString()}: ${certificate.problem() ?? 'there is no other'}`;
}
