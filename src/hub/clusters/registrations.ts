import { type ClusterRegistrationRequest, registrationName } from '../../kube/clusternet.ts';
import { isConflict, KubeError } from '../../kube/errors.ts';
import { getOrNothing } from './ensure.ts';
import { clustersWithObjects, NotYet } from './namespace.ts';
import { reconcileRequest } from './reconcile-request.ts';
import { requestPath, writeStatus } from './request-status.ts';
import type { LeadingRoom } from './room.ts';
import { tokenDueIn } from './token.ts';
import { type WorkQueue, workQueue } from './work-queue.ts';

const WORKERS = 8;
/** A key of the queue that is no request's: to look for what was left of requests that are gone. */
const ORPHANS = '';
/** What looks right is checked within this time after a replica has become the leader, not all at once. */
const CHECK_WITHIN_MS = 300_000;
const SHORTLY_MS = 500;
/** Failures in a row after which a request says that it cannot be granted. */
const FAILED_AFTER = 3;

/** Works on requests until the signal of the room is aborted. */
export async function runRegistrations(room: LeadingRoom): Promise<void> {
  const { directory, signal } = room;
  const queue: WorkQueue = workQueue({
    workers: WORKERS,
    signal,
    async work(name, attempt) {
      if (!room.holds()) return SHORTLY_MS;
      if (name === ORPHANS) return await addOrphans(queue, room);
      try {
        return await reconcileRequest(name, room);
      } catch (error) {
        if (error instanceof NotYet || isConflict(error)) return SHORTLY_MS;
        if (attempt === FAILED_AFTER) await sayFailed(name, error, room);
        throw error;
      }
    },
    onError: (name, error) =>
      room.onError(error instanceof Error ? new Error(`request ${name}: ${error.message}`, { cause: error }) : error),
  });
  try {
    await Promise.all([directory.requests.ready(signal), directory.clusters.ready(signal)]);
  } catch {
    return;
  }
  observe(queue, room);
  addAll(queue, room);
  await queue.run();
}

/** Requests whose objects must be looked at, as they change. */
function observe(queue: WorkQueue, room: LeadingRoom): void {
  const { directory, signal } = room;
  directory.requests.onChange(({ name, object }) => {
    if (name === undefined) addAll(queue, room);
    else if (!object || !isSettled(object)) queue.add(name);
    else if (object.status?.result === 'Approved') queue.addAfter(name, tokenDueIn(object, false));
  }, signal);
  directory.clusters.onChange(({ name, object }) => {
    if (name === undefined) addAll(queue, room);
    if (name === undefined || (object && !object.metadata.deletionTimestamp)) return;
    for (const { metadata, status } of directory.requests.values())
      if (`${status?.dedicatedNamespace}/${status?.managedClusterName}` === name) queue.add(metadata.name);
  }, signal);
}

/** Everything, when nothing is known of what happened before: what needs work at once, the rest bit by bit. */
function addAll(queue: WorkQueue, { directory }: LeadingRoom): void {
  for (const request of directory.requests.values()) {
    const { name } = request.metadata;
    // Its ManagedCluster may have been deleted meanwhile.
    const whole = request.spec.decision === 'Denied' || directory.find(request.spec.clusterId) !== undefined;
    if (!whole || !isSettled(request)) queue.add(name);
    else queue.addAfter(name, Math.min(tokenDueIn(request, false) || CHECK_WITHIN_MS, Math.random() * CHECK_WITHIN_MS));
  }
  queue.add(ORPHANS);
}

/** Nothing is to be done, as far as the request itself tells. */
function isSettled(request: ClusterRegistrationRequest): boolean {
  const { metadata, spec, status } = request;
  if (metadata.deletionTimestamp) return false;
  if (spec.decision === 'Denied') return status?.result === 'Denied' && status.credentialIDs?.length === 0;
  return tokenDueIn(request, false) > 0;
}

async function addOrphans(queue: WorkQueue, { client, directory, signal }: LeadingRoom): Promise<undefined> {
  for (const id of await clustersWithObjects(client, signal)) {
    const name = registrationName(id);
    if (!directory.requests.get(name)) queue.add(name);
  }
  return undefined;
}

/** Tells the agent and people that it does not go on, unless the cluster is in already. */
async function sayFailed(name: string, error: unknown, room: LeadingRoom): Promise<void> {
  if (!(error instanceof KubeError) || error.code >= 500 || error.code === 429) return;
  const request = await getOrNothing<ClusterRegistrationRequest>(room.client, requestPath(name), room.signal);
  if (!request || request.status?.result === 'Approved') return;
  const errorMessage = `the hub could not set the cluster up and tries again: ${error.message}`;
  await writeStatus(request, { result: 'Failed', errorMessage, credentialIDs: [] }, room).catch(room.onError);
}
