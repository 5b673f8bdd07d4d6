import { isDeepStrictEqual } from 'node:util';
import { CLUSTERS_API, CLUSTERS_VERSION, type ClusterRegistrationRequest } from '../../kube/clusternet.ts';
import type { LeadingRoom } from './room.ts';

export type RequestStatus = NonNullable<ClusterRegistrationRequest['status']>;

export const requestPath = (name: string): string => `${CLUSTERS_API}/clusterregistrationrequests/${name}`;

/**
 * Writes the status, when it differs, over the version that was read: 409 when somebody was faster, and then nothing has happened. A result that is new is
 * counted and becomes an Event. Throws KubeError, KubeUnreachableError.
 */
export async function writeStatus(request: ClusterRegistrationRequest, status: RequestStatus, room: LeadingRoom): Promise<void> {
  if (isDeepStrictEqual(request.status ?? {}, status)) return;
  await room.client.request({
    method: 'PUT',
    path: `${requestPath(request.metadata.name)}/status`,
    body: { ...request, apiVersion: CLUSTERS_VERSION, kind: 'ClusterRegistrationRequest', status },
    signal: room.signal,
  });
  if (!status.result || status.result === request.status?.result) return;
  room.metrics.registrations.inc({ result: status.result });
  const well = status.result === 'Approved' || status.result === 'Pending';
  report(request, room, {
    type: well ? 'Normal' : 'Warning',
    reason: `Registration${status.result}`,
    action: 'Register',
    note: status.errorMessage ?? `ManagedCluster ${status.dedicatedNamespace}/${status.managedClusterName}`,
  });
}

/** An Event on the request. */
export function report(
  request: ClusterRegistrationRequest,
  room: Pick<LeadingRoom, 'events'>,
  event: { type: 'Normal' | 'Warning'; reason: string; action: string; note: string },
): void {
  const { name, uid } = request.metadata;
  room.events({ regarding: { apiVersion: CLUSTERS_VERSION, kind: 'ClusterRegistrationRequest', name, ...(uid && { uid }) }, ...event });
}
