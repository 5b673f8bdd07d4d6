import type { ClusterRegistrationRequest } from '../../kube/clusternet.ts';
import { type Approval, approvalByGroup } from './approval.ts';
import { deleteIfThere, getOrNothing } from './ensure.ts';
import { clusterIDOf, DECISION_REASON } from './names.ts';
import { makeNamespace, NamespaceTaken, presentNamespace } from './namespace.ts';
import { ensureAccess, makeManagedCluster, managedClustersIn, managedName } from './provision.ts';
import { clash, malformed } from './refusal.ts';
import { removeCluster, revokeAccess } from './remove.ts';
import { type RequestStatus, report, requestPath, writeStatus } from './request-status.ts';
import type { LeadingRoom } from './room.ts';
import { newToken, reportPlain, tokenDueIn } from './token.ts';

/** A name or id that another cluster has may become free. */
const CLASH_AGAIN_MS = 30_000;

/**
 * Brings the objects of a request to where they must be, from whatever state a crash left them in. Every name follows from the request or is found by label, and
 * the status is written last. Resolves with when to look again (milliseconds). Throws NotYet, KubeError (409: somebody was faster), KubeUnreachableError.
 */
export async function reconcileRequest(name: string, room: LeadingRoom): Promise<number | undefined> {
  const { client, signal } = room;
  const request = await getOrNothing<ClusterRegistrationRequest>(client, requestPath(name), signal);
  if (!request || request.metadata.deletionTimestamp) {
    const id = clusterIDOf(name);
    if (id !== undefined) await removeCluster(id, room);
    return undefined;
  }
  const wrong = malformed(request);
  if (wrong !== undefined) return await deny(request, wrong, room);
  const { clusterId, decision } = request.spec;
  if (decision === 'Denied') {
    // In any case: a crash may have left rights behind that no status tells of.
    await revokeAccess(clusterId, room);
    const reason = request.metadata.annotations?.[DECISION_REASON]?.slice(0, 512);
    return await deny(request, `denied by an administrator${reason ? `: ${reason}` : ''}`, room);
  }
  const approval = await approve(request, room);
  if (!approval.approved) {
    const errorMessage = `waits for approval, because ${approval.why}: kubectl infra approve ${name}`;
    await writeStatus(request, { result: 'Pending', errorMessage, credentialIDs: [] }, room);
    return undefined;
  }
  return await letIn(request, room);
}

async function approve(request: ClusterRegistrationRequest, room: LeadingRoom): Promise<Approval> {
  if (request.spec.decision === 'Approved' || request.status?.result === 'Approved') return { approved: true };
  return await approvalByGroup(request, room.settings.approval.groups, room.client, room.signal);
}

async function deny(request: ClusterRegistrationRequest, errorMessage: string, room: LeadingRoom): Promise<undefined> {
  const { dedicatedNamespace, managedClusterName } = request.status ?? {};
  if (request.status?.result === 'Approved' && request.spec.decision !== 'Denied') await revokeAccess(request.spec.clusterId, room);
  const kept: RequestStatus = { ...(dedicatedNamespace && { dedicatedNamespace }), ...(managedClusterName && { managedClusterName }) };
  await writeStatus(request, { ...kept, result: 'Denied', errorMessage, credentialIDs: [] }, room);
  return undefined;
}

async function letIn(request: ClusterRegistrationRequest, room: LeadingRoom): Promise<number | undefined> {
  const { client, signal, directory, names, settings } = room;
  const { clusterId } = request.spec;
  const approvedBefore = request.status?.result === 'Approved';
  const present = await presentNamespace(client, request, signal);
  const managed = present === undefined ? [] : await managedClustersIn(room, present, clusterId);
  const kept = managed.find(({ metadata }) => metadata.name === request.status?.managedClusterName) ?? managed[0];
  if (approvedBefore && (!kept || kept.metadata.deletionTimestamp)) return await forget(request, room);

  const name = kept?.metadata.name ?? managedName(request);
  if (!approvedBefore) {
    const taken = clash(clusterId, name, present ?? '', directory, names);
    if (taken !== undefined) {
      await deny(request, taken, room);
      return CLASH_AGAIN_MS;
    }
  }
  let namespace = present;
  if (namespace === undefined) {
    try {
      namespace = await makeNamespace(client, request, name, signal);
    } catch (error) {
      if (!(error instanceof NamespaceTaken)) throw error;
      await deny(request, error.message, room);
      return CLASH_AGAIN_MS;
    }
  }
  if (!kept) await makeManagedCluster(request, namespace, name, room);
  await ensureAccess(request, namespace, name, present === undefined, room);

  const due = tokenDueIn(request, true);
  if (due > 0) return due;
  const ca = settings.parentCA();
  if (ca === undefined) throw new Error("the CA of the parent's API server is not known yet");
  const issued = await newToken(request, namespace, room);
  const status: RequestStatus = {
    dedicatedNamespace: namespace,
    managedClusterName: name,
    caCertificate: Buffer.from(ca).toString('base64'),
    result: 'Approved',
    ...issued,
  };
  await writeStatus(request, status, room);
  if (approvedBefore) room.metrics.renewals.inc();
  if (issued.token !== undefined) reportPlain(request, room);
  return tokenDueIn({ ...request, status }, true);
}

/** Somebody deleted the ManagedCluster: the request goes too, and all that belongs to it. The agent has to register anew. */
async function forget(request: ClusterRegistrationRequest, room: LeadingRoom): Promise<undefined> {
  const { name, uid } = request.metadata;
  report(request, room, {
    type: 'Normal',
    reason: 'ClusterDeleted',
    action: 'Delete',
    note: `ManagedCluster ${request.status?.dedicatedNamespace}/${request.status?.managedClusterName} was deleted: its request goes too.`,
  });
  // The account first: when this is cut off, the request is still there and it is done again.
  await revokeAccess(request.spec.clusterId, room);
  await deleteIfThere(room.client, requestPath(name), room.signal, uid ? { uid } : undefined);
  await removeCluster(request.spec.clusterId, room);
  return undefined;
}
