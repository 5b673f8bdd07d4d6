import { UsageError } from './exit.ts';
import type { Flag, ParsedFlags } from './flags.ts';

export type DryRun = 'none' | 'client' | 'server';

/** --dry-run as kubectl takes it. */
export const dryRunFlag = (client: string, server: string): Flag => ({
  name: 'dry-run',
  kind: 'text',
  placeholder: 'client|server|none',
  help: `client: ${client}; server: ${server}`,
  bare: 'unchanged',
  default: 'none',
  choices: ['none\tact', `client\t${client}`, `server\t${server}`],
});

/** Throws UsageError for a value that is not known. */
export function dryRunOf(flags: ParsedFlags): DryRun {
  const value = flags.text('dry-run') ?? 'none';
  if (value === 'none' || value === 'client' || value === 'server') return value;
  if (value === 'unchanged') throw new UsageError('--dry-run needs a value: --dry-run=client, --dry-run=server or --dry-run=none');
  throw new UsageError(`invalid dry-run value (${value}): must be "none", "client" or "server"`);
}

/** What stands behind a result that was not real. */
export const dryRunMark = (dryRun: DryRun): string => (dryRun === 'none' ? '' : dryRun === 'server' ? ' (server dry run)' : ' (dry run)');
