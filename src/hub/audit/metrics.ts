import { Counter, Gauge, type Registry } from 'prom-client';
import type { AuditLog } from './audit-log.ts';

/** Metrics of the audit log, which is asked when they are read. */
export function auditMetrics(registry: Registry, log: Pick<AuditLog, 'problem' | 'lost'>): void {
  const registers = [registry];
  new Gauge({
    name: 'fairlead_hub_audit_log_failing',
    help: '1 while the audit log cannot be written, so that whatever changes something is refused; else 0.',
    registers,
    collect() {
      this.set(log.problem() === undefined ? 0 : 1);
    },
  });
  new Counter({
    name: 'fairlead_hub_audit_entries_lost_total',
    help: 'Entries of the audit log that were lost because it could not be written for too long.',
    registers,
    collect() {
      this.reset();
      this.inc(log.lost());
    },
  });
}
