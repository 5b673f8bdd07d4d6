import type { Action, GuardResult, NodeOperation } from '../../src/hub/nodes/schema.ts';
import { KubeError } from '../../src/kube/errors.ts';
import type { Stdio } from './stdio.ts';

/** Between evidence and remedy in the message of a cause. */
const REMEDY = ' To clear: ';

/** Reason of a cause that force cannot pass over. */
const FINALLY = 'GuardRefusedFinally';

/** The guards that refused, from the Status that the hub answered; empty when the error is something else. */
export function refusalsOf(error: unknown): GuardResult[] {
  if (!(error instanceof KubeError) || error.code !== 409) return [];
  return (error.status.details?.causes ?? [])
    .filter((cause) => cause.reason === 'GuardRefused' || cause.reason === FINALLY)
    .map((cause) => {
      const [message = '', ...remedy] = (cause.message ?? '').split(REMEDY);
      return {
        guard: cause.field ?? '',
        passed: false,
        ...(cause.reason === FINALLY && { forceable: false }),
        message,
        ...(remedy.length > 0 && { remedy: remedy.join(REMEDY) }),
      };
    });
}

/** What would stop the operation, from the answer of a dry run. */
export function refusalsIn(operation: NodeOperation): GuardResult[] {
  return (operation.status?.guards ?? []).filter(({ passed, forceable }) => !passed && (!operation.spec.force || forceable === false));
}

const plural = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** What to print when guards refuse: each with its evidence and what clears it. */
export function refusalText(action: Action, node: string, refusals: readonly GuardResult[], stdio: Stdio): string {
  const verb = action.toLowerCase();
  const lines = [`${stdio.paint('red', 'refused')}: ${verb} of node ${node} by ${plural(refusals.length, 'guard')}`];
  for (const { guard, message, remedy } of refusals) {
    lines.push(`  ${guard}: ${message}`);
    if (remedy) lines.push(`    to clear: ${remedy}`);
  }
  if (refusals.every(({ forceable }) => forceable !== false))
    lines.push(`  or pass over them with --force, which needs the verb "force" on nodes/${verb}`);
  return `${lines.join('\n')}\n`;
}

/** The answer of a server dry run for people: the verdict, and each guard with its evidence. */
export function dryRunText(action: Action, node: string, operation: NodeOperation): string {
  const guards = operation.status?.guards ?? [];
  const refused = refusalsIn(operation);
  const forced = guards.filter(({ passed }) => !passed).length - refused.length;
  const verb = action.toLowerCase();
  const verdict =
    refused.length > 0
      ? `would be refused by ${refused.length} of ${plural(guards.length, 'guard')}`
      : forced > 0
        ? `would be accepted by force over ${forced} of ${plural(guards.length, 'guard')}`
        : `would be accepted: ${guards.length === 1 ? 'the guard passes' : `all ${guards.length} guards pass`}`;
  const width = Math.max(0, ...guards.map((guard) => guard.guard.length));
  const lines = [`node/${node}: ${verb} ${verdict} (server dry run)`];
  for (const { guard, passed, message, remedy } of guards) {
    lines.push(`  ${passed ? 'pass  ' : 'REFUSE'}  ${guard.padEnd(width)}  ${message}`.trimEnd());
    if (!passed && remedy) lines.push(`          ${''.padEnd(width)}  to clear: ${remedy}`);
  }
  return `${lines.join('\n')}\n`;
}
