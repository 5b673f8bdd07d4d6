import type { Run } from './run-context.ts';

/** Tells about the beginning or the end of an operation: an Event on the Node and, at the end, metrics. */
export function announce(run: Run, phase: 'Started' | 'Succeeded' | 'Failed' | 'Cancelled', reason: string, message: string): void {
  const { name, node, spec, record, directory, events, metrics } = run;
  const facts = directory.get(node);
  const note = `${name}: ${message} (requested by ${spec.requestedBy.username}${spec.reason ? `: ${spec.reason}` : ''}${spec.auditID ? `; Audit-ID ${spec.auditID}` : ''})`;
  events({
    regarding: { apiVersion: 'v1', kind: 'Node', name: node, ...(facts && { uid: facts.uid }) },
    type: phase === 'Failed' ? 'Warning' : 'Normal',
    reason: `${spec.action}${phase}`,
    action: spec.action,
    note: reason ? `${note} ${reason}` : note,
  });
  if (phase === 'Started') return;
  const cloud = record.status.machine?.cloud ?? 'unknown';
  metrics.operations.inc({ action: spec.action, cloud, result: phase });
  const started = Date.parse(record.status.startTime ?? '');
  if (!Number.isNaN(started)) metrics.duration.observe({ action: spec.action, result: phase }, Math.max(0, (Date.now() - started) / 1000));
}
