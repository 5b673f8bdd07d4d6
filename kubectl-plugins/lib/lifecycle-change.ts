import type { KubeRequest } from '../../src/kube/client.ts';
import { KubeError, KubeUnreachableError } from '../../src/kube/errors.ts';
import type { LifecycleOperation } from '../../src/kube/lifecycle.ts';
import { dryRunFlag, dryRunOf } from './dry-run.ts';
import { parseDuration, shortDuration } from './duration.ts';
import { errorText } from './errors.ts';
import { EXIT, type ExitCode, UsageError } from './exit.ts';
import type { Flag, ParsedFlags } from './flags.ts';
import { Interrupted } from './interrupt.ts';
import { type ClusterLifecycle, followLifecycle, hasEnded, lifecyclePath, type Plan, phaseText, stepText } from './lifecycle.ts';
import { planText } from './lifecycle-plan.ts';
import { type Output, outputOf } from './output.ts';
import { plainText } from './plain-text.ts';
import { progress } from './progress.ts';
import type { Session } from './session.ts';

/** Flags of every command that begins an operation on a machine. */
export const CHANGE_FLAGS: readonly Flag[] = [
  { name: 'wait', kind: 'switch', help: 'Wait until the operation has ended', default: 'true' },
  { name: 'no-wait', kind: 'switch', help: 'The same as --wait=false', default: 'false' },
  { name: 'timeout', kind: 'text', placeholder: 'DURATION', help: 'How long to wait; the operation goes on by itself', default: '30m' },
  dryRunFlag('not possible, the machine has to be asked', 'print exactly what would be done on the machine, and change nothing'),
  {
    name: 'output',
    short: 'o',
    kind: 'text',
    placeholder: 'FORM',
    help: 'json, yaml, name, jsonpath=TEMPLATE or custom-columns=SPEC',
    choices: ['json', 'yaml', 'name', 'jsonpath=', 'custom-columns='],
  },
];

/** What is asked for: `subresource` of the cluster, and what to say when it is done (`created`, `upgraded`). */
export type LifecycleChange = {
  cluster: string;
  subresource?: string;
  method: NonNullable<KubeRequest['method']>;
  body?: object;
  contentType?: string;
  done: string;
};

type Plans = { dryRun: boolean; wait: boolean; waitMs: number; output: Output };

/** Throws UsageError. */
export function changePlan(flags: ParsedFlags): Plans {
  const dryRun = dryRunOf(flags);
  if (dryRun === 'client') throw new UsageError('--dry-run=client cannot know the machine: use --dry-run=server');
  const waitMs = parseDuration(flags.text('timeout') ?? '30m', 'timeout');
  if (waitMs <= 0) throw new UsageError('--timeout must be longer than 0; use --no-wait to wait for nothing');
  if (flags.on('no-wait') && flags.given('wait') && flags.on('wait')) throw new UsageError('give either --wait or --no-wait');
  return {
    dryRun: dryRun === 'server',
    wait: flags.on('wait', true) && !flags.on('no-wait'),
    waitMs,
    output: outputOf(flags.text('output'), false),
  };
}

/** Begins an operation and follows it. Exit codes are those of kubectl restart; 3 when the agent refuses because of what is there (409). */
export async function runChange(session: Session, change: LifecycleChange): Promise<ExitCode> {
  const plans = changePlan(session.flags);
  const { cluster, method, body, contentType } = change;
  const say = (text: string) => session.stdio.err(plainText(text));
  let answer: { code: number; body: ClusterLifecycle | Plan };
  try {
    answer = await session.api().ask<ClusterLifecycle | Plan>({
      method,
      path: lifecyclePath(cluster, change.subresource),
      query: { dryRun: plans.dryRun ? 'All' : undefined },
      ...(body && { body }),
      ...(contentType && { contentType }),
      signal: session.signal,
    });
  } catch (error) {
    if (error instanceof KubeUnreachableError && error.sent) {
      say(`error: ${errorText(error)}; it may have begun, look: kubectl infra lifecycle get ${cluster}${session.sameCluster}\n`);
      return EXIT.unfinished;
    }
    if (!(error instanceof KubeError) || error.code !== 409) throw error;
    say(`refused: ${error.message}\n`);
    return EXIT.refused;
  }
  if (answer.body.kind === 'OperationPlan') {
    const plan = answer.body as Plan;
    session.stdio.out(plans.output.form === 'human' ? planText(plan) : plans.output.print([plan]));
    return EXIT.done;
  }
  const begun = answer.body as ClusterLifecycle;
  const operation = begun.status?.operation;
  // A PUT or PATCH that changes nothing begins nothing; it shows what ran last.
  if (!operation || ((method === 'PUT' || method === 'PATCH') && answer.code === 200)) {
    if (plans.output.form === 'human') session.stdio.out(`cluster/${cluster} unchanged\n`);
    else session.stdio.out(plans.output.print([begun]));
    return EXIT.done;
  }
  if (!plans.wait) {
    if (plans.output.form === 'human')
      session.stdio.out(`cluster/${cluster} ${operation.type} accepted (operation ${plainText(operation.id)})\n`);
    else session.stdio.out(plans.output.print([begun]));
    say(`follow it: kubectl infra lifecycle logs ${cluster} -f${session.sameCluster}\n`);
    return EXIT.done;
  }
  return await follow(session, change, plans, begun, operation);
}

async function follow(
  session: Session,
  { cluster, done }: LifecycleChange,
  { waitMs, output }: Plans,
  begun: ClusterLifecycle,
  started: LifecycleOperation,
): Promise<ExitCode> {
  const { stdio, sameCluster } = session;
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(new Error('timeout')), Math.min(waitMs, 2 ** 31 - 1));
  const signal = AbortSignal.any([session.signal, end.signal]);
  const shown = progress(stdio);
  const began = performance.now();
  let last = started;
  const show = (operation: LifecycleOperation) => {
    last = operation;
    shown.state(cluster, phaseText(operation), plainText(stepText(operation)));
  };
  try {
    show(started);
    const lost = (why: string) => shown.note(cluster, plainText(`no answer, trying again: ${why}`));
    const ended = hasEnded(started) ? begun : await followLifecycle(session.api(), cluster, started.id, { changed: show, lost }, signal);
    shown.close();
    if (output.form !== 'human') stdio.out(output.print([ended]));
    const { phase, type, message, nextCommand } = ended.status?.operation ?? last;
    if (phase === 'Succeeded') {
      const version = ended.status?.kubernetesVersion ? `, Kubernetes ${ended.status.kubernetesVersion}` : '';
      if (output.form === 'human')
        stdio.out(plainText(`cluster/${cluster} ${done} (${shortDuration(performance.now() - began)}${version})\n`));
      return EXIT.done;
    }
    stdio.err(
      plainText(
        `error: ${type} of cluster ${cluster} failed${message ? `: ${message}` : ''}; see kubectl infra lifecycle logs ${cluster}${sameCluster}\n`,
      ),
    );
    if (nextCommand) stdio.err(plainText(`  next, on the machine: ${nextCommand}\n`));
    return EXIT.error;
  } catch (error) {
    shown.close();
    if (error instanceof KubeError && error.reason === 'Gone') {
      stdio.err(plainText(`${error.message}\n`));
      return EXIT.unfinished;
    }
    const why = signal.aborted
      ? session.signal.reason instanceof Interrupted
        ? 'interrupted'
        : `not finished within ${shortDuration(waitMs)}`
      : `it cannot be followed: ${errorText(error)}`;
    stdio.err(
      plainText(
        `${why}: the operation goes on (${last.type} ${last.id}, ${phaseText(last)})\n  follow it: kubectl infra lifecycle logs ${cluster} -f${sameCluster}\n`,
      ),
    );
    return EXIT.unfinished;
  } finally {
    clearTimeout(timer);
    shown.close();
  }
}
