import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { certificateMetrics, certificateOver } from '../../../src/hub/certificates/metrics.ts';
import { pairHolder } from '../../../src/hub/certificates/pair-holder.ts';
import { issueCertificate } from '../../../src/hub/certificates/x509.ts';

const HOUR_MS = 3_600_000;
const begin = new Date('2026-11-01T00:00:00Z');
const pair = (hours: number) =>
  issueCertificate({ commonName: 'hub', notBefore: begin, notAfter: new Date(begin.getTime() + hours * HOUR_MS), usages: ['serverAuth'] });

test('regression: nothing but the log told of a certificate that comes to its end', async () => {
  const holder = pairHolder(pair(1));
  const registry = new Registry();
  certificateMetrics(registry, holder.current);
  const value = async (what: string) =>
    /^\S+ (\S+)$/m.exec(
      (await registry.getSingleMetricAsString(`fairlead_hub_serving_certificate_${what}_timestamp_seconds`)).replaceAll(/^#.*\n/gm, ''),
    )?.[1];
  expect(await value('not_before')).toBe(String(begin.getTime() / 1_000));
  expect(await value('expiration')).toBe(String(begin.getTime() / 1_000 + 3_600));
  holder.replace(pair(2));
  expect(await value('expiration')).toBe(String(begin.getTime() / 1_000 + 7_200));
});

test('readyz names it only when it is over: until then the hub serves, whatever the trouble', () => {
  const { current } = pairHolder(pair(1));
  const at = (minutes: number, problem?: string) =>
    certificateOver({ current, problem: () => problem }, new Date(begin.getTime() + minutes * 60_000));
  expect(at(59, 'the Secret cannot be read')).toBeUndefined();
  expect(at(61, 'the Secret cannot be read')).toBe('the serving certificate ended at 2026-11-01T01:00:00.000Z: the Secret cannot be read');
  expect(at(61)).toContain('there is no other');
});
