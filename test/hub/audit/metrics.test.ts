import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { auditLog } from '../../../src/hub/audit/audit-log.ts';
import { auditMetrics } from '../../../src/hub/audit/metrics.ts';
import { eventually } from '../auth/eventually.ts';
import { entry } from './entries.ts';
import { folder } from './folder.ts';

test('regression: no metric told that the audit log could not be written and that changes were refused', async (context) => {
  const dir = await folder(context);
  const log = auditLog({ destination: join(dir, 'later', 'audit.log'), onError: () => undefined, maxQueued: 2_000, retryMs: 20 });
  context.onTestFinished(() => log.close());
  const registry = new Registry();
  auditMetrics(registry, log);
  const value = async (name: string) =>
    Number(/^\S+ (\S+)$/m.exec((await registry.getSingleMetricAsString(name)).replaceAll(/^#.*\n/gm, ''))?.[1]);
  const failing = () => value('fairlead_hub_audit_log_failing');
  const lost = () => value('fairlead_hub_audit_entries_lost_total');
  expect([await failing(), await lost()]).toEqual([0, 0]);
  await expect(log.flush()).rejects.toThrow(/ENOENT/);
  for (let number = 0; number < 100; number++) log.write(entry(number));
  const missing = await lost();
  expect([await failing(), missing > 50]).toEqual([1, true]);
  await mkdir(join(dir, 'later'));
  await eventually('recovery', () => log.problem() === undefined);
  // A counter does not go back.
  expect([await failing(), await lost()]).toEqual([0, missing]);
});
