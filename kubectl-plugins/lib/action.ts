import type { Action, NodeOperation } from '../../src/hub/nodes/schema.ts';
import { type ActionPlan, actionPlan } from './action-flags.ts';
import { atOnce, runBatches } from './batches.ts';
import { shortDuration } from './duration.ts';
import { errorText } from './errors.ts';
import { EXIT, type ExitCode, UsageError } from './exit.ts';
import { dryRunText, refusalsIn, refusalsOf, refusalText } from './guards.ts';
import { Interrupted } from './interrupt.ts';
import { isFinal, nameOf, requestOperation } from './operations.ts';
import { type Output, outputOf } from './output.ts';
import { type Progress, progress } from './progress.ts';
import type { Session } from './session.ts';
import { findTargets } from './targets.ts';
import { waitForOperation } from './wait.ts';

/** How one node came out. `ok` lets a batch go on. */
type Outcome = { ok: boolean; node: string; code: ExitCode; operation?: NodeOperation };

const DONE: Record<Action, string> = { Restart: 'restarted', Stop: 'stopped', Start: 'started' };

/**
 * `kubectl restart`, `kubectl infra stop` and `kubectl infra start`: requests one operation per node and follows it. Returns the exit code:
 * that of the first node that was not done.
 */
export async function runAction(action: Action, session: Session): Promise<ExitCode> {
  const plan = actionPlan(session.flags);
  const output = outputOf(session.flags.text('output'), false);
  const nodes = await findTargets(session.api(), session.flags.words, plan.selector, session.signal);
  const width = plan.dryRun ? 4 : atOnce(plan.maxUnavailable, nodes.length);
  if (!plan.wait && !plan.dryRun && nodes.length > width) {
    throw new UsageError(
      `--wait=false does not see when a node is back, so --max-unavailable ${plan.maxUnavailable} cannot be kept for ${nodes.length} nodes: wait, or raise it`,
    );
  }
  const shown = progress(session.stdio, plan.dryRun);
  const run: Run = { action, plan, output, session, shown, width };
  let results: Outcome[];
  let notBegun: string[];
  try {
    const task = plan.dryRun ? tryOne : actOnOne;
    ({ results, notBegun } = await runBatches(
      nodes,
      width,
      (node) => task(run, node),
      () => session.signal.aborted,
    ));
  } finally {
    shown.close();
  }
  if (output.form !== 'human') {
    const operations = results.flatMap(({ operation }) => (operation ? [operation] : []));
    if (operations.length > 0) session.stdio.out(output.print(operations, nodes.length > 1 && output.form !== 'name'));
  }
  const bad = results.find(({ code }) => code !== EXIT.done);
  if (notBegun.length > 0)
    session.stdio.err(`not done: ${notBegun.map((node) => `node/${node}`).join(' ')} (${notBegun.length} of ${nodes.length})\n`);
  return bad?.code ?? (session.signal.aborted && notBegun.length > 0 ? EXIT.error : EXIT.done);
}

type Run = { action: Action; plan: ActionPlan; output: Output; session: Session; shown: Progress; width: number };

/** Asks what would happen. One refusal does not end the batch: the answer for every node is wanted. */
async function tryOne({ action, plan, output, session }: Run, node: string): Promise<Outcome> {
  try {
    const operation = await requestOperation(session.api(), action, node, plan.options, { signal: session.signal, again: () => undefined });
    if (output.form === 'human') session.stdio.out(dryRunText(action, node, operation));
    const refused = refusalsIn(operation).length > 0;
    return { ok: true, node, operation, code: refused ? EXIT.refused : EXIT.done };
  } catch (error) {
    const refusals = refusalsOf(error);
    if (refusals.length > 0) session.stdio.err(refusalText(action, node, refusals, session.stdio));
    else session.stdio.err(`error: ${action.toLowerCase()} of node ${node}: ${errorText(error)}\n`);
    return { ok: !session.signal.aborted, node, code: refusals.length > 0 ? EXIT.refused : EXIT.error };
  }
}

async function actOnOne(run: Run, node: string): Promise<Outcome> {
  const { action, plan, session, shown } = run;
  const verb = action.toLowerCase();
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(new Error('timeout')), plan.waitMs);
  const signal = AbortSignal.any([session.signal, end.signal]);
  const began = performance.now();
  const say = (text: string) => shown.around(() => session.stdio.err(text));
  let operation: NodeOperation | undefined;
  try {
    operation = await requestOperation(session.api(), action, node, plan.options, {
      signal,
      again: (why) => shown.note(node, `no answer, asking again: ${why}`),
    });
    if (!plan.wait) return accepted(run, node, operation);
    shown.changed(node, operation);
    const ended = await waitForOperation(
      session.api(),
      operation,
      {
        changed: (next) => {
          operation = next;
          shown.changed(node, next);
        },
        lost: (why) => shown.note(node, `connection lost, trying again: ${why}`),
      },
      signal,
    );
    shown.ended(node);
    return finished(run, node, ended, performance.now() - began);
  } catch (error) {
    shown.ended(node);
    if (signal.aborted) {
      say(unfinishedText(run, node, operation));
      return { ok: false, node, code: EXIT.unfinished, ...(operation && { operation }) };
    }
    if (operation && !isFinal(operation)) {
      say(`error: the operation ${nameOf(operation)} on node ${node} was accepted but cannot be followed: ${errorText(error)}\n`);
      return { ok: false, node, operation, code: EXIT.unfinished };
    }
    const refusals = refusalsOf(error);
    say(refusals.length > 0 ? refusalText(action, node, refusals, session.stdio) : `error: ${verb} of node ${node}: ${errorText(error)}\n`);
    return { ok: false, node, code: refusals.length > 0 ? EXIT.refused : EXIT.error };
  } finally {
    clearTimeout(timer);
  }
}

function accepted({ action, output, session, shown }: Run, node: string, operation: NodeOperation): Outcome {
  const name = nameOf(operation);
  shown.around(() => {
    if (output.form === 'human') session.stdio.out(`node/${node} ${action.toLowerCase()} accepted (operation ${name})\n`);
    session.stdio.err(`follow it: kubectl infra logs ${node} -f${session.sameCluster}\n`);
  });
  return { ok: true, node, operation, code: EXIT.done };
}

function finished({ action, output, session, shown }: Run, node: string, operation: NodeOperation, ms: number): Outcome {
  const { phase, reason, message } = operation.status ?? {};
  const name = nameOf(operation);
  if (phase === 'Succeeded') {
    shown.around(() => {
      if (output.form === 'human') session.stdio.out(`node/${node} ${DONE[action]} (${shortDuration(ms)}, operation ${name})\n`);
    });
    return { ok: true, node, operation, code: EXIT.done };
  }
  const what = phase === 'Cancelled' ? 'was cancelled' : 'failed';
  const why = [reason, message].filter((part) => part).join(': ');
  shown.around(() =>
    session.stdio.err(
      `error: ${action.toLowerCase()} of node ${node} ${what}${why ? `: ${why}` : ''} (operation ${name}; see kubectl infra logs ${node}${session.sameCluster})\n`,
    ),
  );
  return { ok: false, node, operation, code: EXIT.error };
}

/** What goes on without us, and how to follow or cancel it. */
function unfinishedText({ action, plan, session }: Run, node: string, operation: NodeOperation | undefined): string {
  const verb = action.toLowerCase();
  const why = session.signal.reason instanceof Interrupted ? 'interrupted' : `not finished within ${shortDuration(plan.waitMs)}`;
  const to = session.sameCluster;
  if (!operation) {
    return `${why}: the ${verb} of node ${node} may have been accepted; look: kubectl infra operations --node=${node}${to}\n`;
  }
  return [
    `${why}: the ${verb} of node ${node} goes on (operation ${nameOf(operation)}, ${operation.status?.phase ?? 'Pending'})`,
    `  follow it: kubectl infra logs ${node} -f${to}`,
    `  cancel it: kubectl infra cancel ${nameOf(operation)}${to}`,
    '',
  ].join('\n');
}
