import type { Action } from '../../src/hub/nodes/schema.ts';
import { parseDuration } from './duration.ts';
import { UsageError } from './exit.ts';
import type { Flag, ParsedFlags } from './flags.ts';
import type { ActionOptions } from './operations.ts';

const text = (name: string, placeholder: string, help: string, more: Partial<Flag> = {}): Flag => ({
  name,
  kind: 'text',
  placeholder,
  help,
  ...more,
});
const onOff = (name: string, help: string, byDefault = 'false'): Flag => ({ name, kind: 'switch', help, default: byDefault });

const DRAIN_FLAGS: readonly Flag[] = [
  onOff('drain', 'Cordon the node and evict its pods first; it is uncordoned afterwards unless it was cordoned before'),
  onOff('ignore-daemonsets', 'Leave pods of DaemonSets in place; false refuses when there are any', 'true'),
  onOff('delete-emptydir-data', 'Evict pods that use emptyDir although their data is lost'),
  onOff('disable-eviction', 'Delete the pods instead of evicting them, past disruption budgets. Needs the verb "force"'),
  onOff('drain-force', 'Evict pods that no controller would bring back (--force of kubectl drain)'),
  text('drain-timeout', 'DURATION', 'How long draining may take; 0: as the hub is set', { default: '0s' }),
  text('grace-period', 'SECONDS', "Time each pod gets to end; -1: the pod's own", { default: '-1' }),
  text('pod-selector', 'SELECTOR', 'Only pods with these labels are evicted'),
  text('skip-wait-for-delete-timeout', 'SECONDS', 'Do not wait for pods whose deletion is older than this; 0: wait for all', {
    default: '0',
  }),
];

const HARD_FLAG = onOff('hard', 'Do not ask the operating system: reset, or cut the power');

const COMMON_FLAGS: readonly Flag[] = [
  onOff('force', 'Act although guards refuse. Needs the verb "force"'),
  text('reason', 'TEXT', 'Why; kept with the operation, in Events and in the audit log'),
  text('dry-run', 'server|none', 'server: run every guard and the cloud’s own check, and change nothing', {
    bare: 'unchanged',
    default: 'none',
    choices: ['none\tact', 'server\trun every guard, change nothing'],
  }),
  onOff('wait', 'Wait until the operation has ended', 'true'),
  text('timeout', 'DURATION', 'Limit for the operation of each node, and for waiting for it; 0: as the hub is set, waiting at most 1h', {
    default: '0s',
  }),
  text('max-unavailable', 'N|N%', 'How many nodes at the same time; a percentage of the nodes named, rounded down', { default: '1' }),
  text('selector', 'SELECTOR', 'Nodes with these labels, instead of names', { short: 'l' }),
  text('output', 'FORM', 'json, yaml, name, jsonpath=TEMPLATE or custom-columns=SPEC', {
    short: 'o',
    choices: ['json', 'yaml', 'name', 'jsonpath=', 'custom-columns='],
  }),
];

/** The flags of restart, stop or start. */
export function actionFlags(action: Action): readonly Flag[] {
  return action === 'Start' ? COMMON_FLAGS : [HARD_FLAG, ...DRAIN_FLAGS, ...COMMON_FLAGS];
}

/** Waiting must end some day also when neither the caller nor the hub sets a limit. */
const LONGEST_WAIT_MS = 3_600_000;

export type ActionPlan = {
  /** Body of the request. */
  options: ActionOptions;
  dryRun: boolean;
  wait: boolean;
  /** Per node, from the request on. */
  waitMs: number;
  /** `3` or `25%`, checked. */
  maxUnavailable: string;
  selector: string | undefined;
};

/** Turns the flags of an action into its request. Throws UsageError. */
export function actionPlan(flags: ParsedFlags): ActionPlan {
  const drain = flags.on('drain');
  if (!drain) {
    const idle = DRAIN_FLAGS.find((flag) => flag.name !== 'drain' && flag.name !== 'ignore-daemonsets' && flags.given(flag.name));
    if (idle) throw new UsageError(`--${idle.name} has no effect without --drain`);
  }
  const timeoutMs = duration(flags, 'timeout');
  const drainMs = duration(flags, 'drain-timeout');
  const grace = integer(flags, 'grace-period', -1);
  const skip = integer(flags, 'skip-wait-for-delete-timeout', 0);
  const podSelector = flags.text('pod-selector');
  const reason = flags.text('reason');
  const dryRun = isDryRun(flags.text('dry-run'));
  const maxUnavailable = flags.text('max-unavailable') ?? '1';
  if (!/^([1-9]\d*|[1-9]\d?%|100%)$/.test(maxUnavailable)) {
    throw new UsageError(`--max-unavailable takes a number from 1 on or a percentage from 1% to 100%, not "${maxUnavailable}"`);
  }
  const options: ActionOptions = {
    ...(flags.on('hard') && { hard: true }),
    ...(drain && {
      drain: true,
      ignoreDaemonSets: flags.on('ignore-daemonsets', true),
      ...(flags.on('delete-emptydir-data') && { deleteEmptyDirData: true }),
      ...(flags.on('drain-force') && { evictUnmanaged: true }),
      ...(flags.on('disable-eviction') && { disableEviction: true }),
      ...(podSelector && { podSelector }),
      ...(grace !== undefined && grace !== -1 && { gracePeriodSeconds: grace }),
      ...(skip !== undefined && skip !== 0 && { skipWaitForDeleteTimeoutSeconds: skip }),
      ...(drainMs > 0 && { drainTimeoutSeconds: Math.ceil(drainMs / 1000) }),
    }),
    ...(flags.on('force') && { force: true }),
    ...(reason && { reason }),
    ...(timeoutMs > 0 && { timeoutSeconds: Math.ceil(timeoutMs / 1000) }),
    ...(dryRun && { dryRun: ['All'] as 'All'[] }),
  };
  return {
    options,
    dryRun,
    wait: flags.on('wait', true),
    waitMs: timeoutMs || LONGEST_WAIT_MS,
    maxUnavailable,
    selector: selectorOf(flags),
  };
}

function selectorOf(flags: ParsedFlags): string | undefined {
  const selector = flags.text('selector');
  if (selector === '') throw new UsageError('--selector is empty: it would name every node');
  return selector;
}

function isDryRun(value: string | undefined): boolean {
  switch (value) {
    case undefined:
    case 'none':
      return false;
    case 'server':
      return true;
    case 'client':
      throw new UsageError('--dry-run=client cannot say anything here: guards and cloud are asked by the hub. Use --dry-run=server');
    case 'unchanged':
      throw new UsageError('--dry-run needs a value: --dry-run=server or --dry-run=none');
    default:
      throw new UsageError(`invalid dry-run value (${value}): must be "none" or "server"`);
  }
}

function duration(flags: ParsedFlags, name: string): number {
  const ms = parseDuration(flags.text(name) ?? '0', name);
  if (ms > 86_400_000) throw new UsageError(`--${name} is at most 24h`);
  return ms;
}

function integer(flags: ParsedFlags, name: string, least: number): number | undefined {
  const value = flags.text(name);
  if (value === undefined) return undefined;
  if (!/^-?\d+$/.test(value) || Number(value) < least || Number(value) > 86_400) {
    throw new UsageError(`--${name} takes a whole number of seconds from ${least} to 86400, not "${value}"`);
  }
  return Number(value);
}
