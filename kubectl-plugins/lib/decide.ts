import { CLUSTERS_API, CLUSTERS_VERSION, type ClusterRegistrationRequest } from '../../src/kube/clusternet.ts';
import { KubeError } from '../../src/kube/errors.ts';
import { type DryRun, dryRunMark, dryRunOf } from './dry-run.ts';
import { parseDuration, shortDuration } from './duration.ts';
import { errorText } from './errors.ts';
import { EXIT, type ExitCode, UsageError } from './exit.ts';
import { followObject } from './follow-object.ts';
import { outputOf } from './output.ts';
import { plainText } from './plain-text.ts';
import { clusterNameOf, findRegistrations, REQUESTS } from './registrations.ts';
import type { Session } from './session.ts';

export type Decision = 'Approved' | 'Denied';

/** Where the reason of a decision is kept. */
export const REASON_ANNOTATION = 'infraops.michael.io/decision-reason';

type Outcome = { code: ExitCode; request?: ClusterRegistrationRequest };

/**
 * Writes a decision on every cluster that the command line names, and waits until the hub has carried it out. All of them are found before the
 * first is written. Returns the exit code of the first that was not done: 1 not written, 3 the hub refuses, 4 not carried out in time.
 */
export async function decide(session: Session, decision: Decision): Promise<ExitCode> {
  const { flags, stdio, signal } = session;
  const output = outputOf(flags.text('output'), false);
  const dryRun = dryRunOf(flags);
  const waitMs = parseDuration(flags.text('timeout') ?? '30s', 'timeout');
  if (waitMs < 1 || waitMs > 86_400_000) throw new UsageError('--timeout is from 1ms to 24h; use --wait=false not to wait');
  if (flags.words.length === 0) throw new UsageError('which cluster? See kubectl infra requests');
  const reason = flags.text('reason');
  const requests = await findRegistrations(session.api(), flags.words, signal);
  const deadline = performance.now() + waitMs;
  const outcomes: Outcome[] = [];
  for (const [at, request] of requests.entries()) {
    if (signal.aborted) {
      stdio.err(
        `not done: ${requests
          .slice(at)
          .map(({ metadata }) => metadata.name)
          .join(' ')}\n`,
      );
      break;
    }
    try {
      const written = dryRun === 'client' ? request : await write(session, request, decision, reason, dryRun);
      const waits = dryRun === 'none' && flags.on('wait', true);
      const outcome = waits ? await carriedOut(session, written, decision, deadline, waitMs) : { code: EXIT.done, request: written };
      if (outcome.code === EXIT.done && output.form === 'human') {
        stdio.out(doneText(written, outcome.request, decision, waits, dryRun));
        if (decision === 'Approved' && wasCutOff(request)) stdio.err(fetchText(written));
      }
      outcomes.push(outcome);
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      stdio.err(`error: ${request.metadata.name}: ${errorText(error)}\n`);
      outcomes.push({ code: EXIT.error });
    }
  }
  if (output.form !== 'human') {
    const shown = outcomes.flatMap(({ request }) =>
      request ? [{ apiVersion: CLUSTERS_VERSION, kind: 'ClusterRegistrationRequest', ...request }] : [],
    );
    if (shown.length > 0) stdio.out(output.print(shown, requests.length > 1 && output.form !== 'name'));
  }
  return outcomes.find(({ code }) => code !== EXIT.done)?.code ?? EXIT.done;
}

async function write(
  session: Session,
  { metadata }: ClusterRegistrationRequest,
  decision: Decision,
  reason: string | undefined,
  dryRun: DryRun,
): Promise<ClusterRegistrationRequest> {
  const { body } = await session.api().ask<ClusterRegistrationRequest>({
    method: 'PATCH',
    path: `${CLUSTERS_API}/${REQUESTS}/${encodeURIComponent(metadata.name)}`,
    query: { fieldManager: 'kubectl-infra', fieldValidation: 'Strict', dryRun: dryRun === 'server' ? 'All' : undefined },
    contentType: 'application/merge-patch+json',
    body: {
      // A request of that name that came meanwhile is another one.
      metadata: { ...(metadata.uid && { uid: metadata.uid }), annotations: { [REASON_ANNOTATION]: reason || null } },
      spec: { decision },
    },
    signal: session.signal,
  });
  return body;
}

async function carriedOut(
  session: Session,
  written: ClusterRegistrationRequest,
  decision: Decision,
  deadline: number,
  waitMs: number,
): Promise<Outcome> {
  const { name } = written.metadata;
  const before = JSON.stringify(written.status ?? {});
  let latest = written;
  // What stood there before the decision says nothing about it, unless it is what was wanted.
  const done = ({ status }: ClusterRegistrationRequest) =>
    status?.result === decision || ((status?.result === 'Denied' || status?.result === 'Failed') && JSON.stringify(status) !== before);
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(new Error('timeout')), Math.max(1, deadline - performance.now()));
  const signal = AbortSignal.any([session.signal, end.signal]);
  try {
    const told = {
      changed: (next: ClusterRegistrationRequest) => {
        latest = next;
      },
      lost: () => undefined,
    };
    const gone = `the request ${name} was deleted`;
    latest = await followObject(session.api(), written, { path: `${CLUSTERS_API}/${REQUESTS}`, done, gone, ...told }, signal);
  } catch (error) {
    const why = session.signal.aborted
      ? 'interrupted'
      : end.signal.aborted
        ? `not carried out within ${shortDuration(waitMs)}`
        : errorText(error);
    const { result, errorMessage } = latest.status ?? {};
    const state = result ? `; the hub still says ${result}${errorMessage ? `: ${errorMessage}` : ''}` : '; is the hub running?';
    session.stdio.err(
      plainText(`${name}: ${decision} is written, but ${why}${state}\n  look: kubectl infra requests ${name}${session.sameCluster}\n`),
    );
    return { code: EXIT.unfinished, request: latest };
  } finally {
    clearTimeout(timer);
  }
  if (latest.status?.result === decision) return { code: EXIT.done, request: latest };
  session.stdio.err(plainText(`error: ${name}: the hub refuses: ${latest.status?.errorMessage || latest.status?.result || ''}\n`));
  return { code: EXIT.refused, request: latest };
}

/** It was let in, and then denied: with that its account went, and the old credential reads nothing any more. */
const wasCutOff = ({ status }: ClusterRegistrationRequest): boolean => status?.result === 'Denied' && Boolean(status.dedicatedNamespace);

const fetchText = ({ metadata }: ClusterRegistrationRequest): string =>
  plainText(
    `${metadata.name}: its old credentials stay revoked; if its agent has no bootstrap token any more, make one and put it in place there: kubectl infra join-command\n`,
  );

function doneText(
  written: ClusterRegistrationRequest,
  ended: ClusterRegistrationRequest | undefined,
  decision: Decision,
  waited: boolean,
  dryRun: DryRun,
): string {
  const request = ended ?? written;
  const cluster = clusterNameOf(request);
  const { dedicatedNamespace, errorMessage } = request.status ?? {};
  const details = [
    cluster && `cluster ${cluster}`,
    waited && decision === 'Approved' && dedicatedNamespace ? `namespace ${dedicatedNamespace}` : '',
    waited && errorMessage ? errorMessage : '',
  ].filter((part) => part);
  const verb = decision === 'Approved' ? 'approved' : 'denied';
  return plainText(
    `clusterregistrationrequest.clusters.clusternet.io/${request.metadata.name} ${verb}${details.length > 0 ? ` (${details.join(', ')})` : ''}${dryRunMark(dryRun)}\n`,
  );
}
