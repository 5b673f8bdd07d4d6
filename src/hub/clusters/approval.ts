import type { KubeClient } from '../../kube/client.ts';
import type { ClusterRegistrationRequest } from '../../kube/clusternet.ts';
import { admissionGap } from './admission.ts';
import { REQUESTED_BY_GROUPS } from './names.ts';

/** Whether a request goes on without a person, and if not, why. */
export type Approval = { approved: true } | { approved: false; why: string };

/** Asks the policy: is who made the request in one of the groups, and is that known for sure? Throws KubeError, KubeUnreachableError. */
export async function approvalByGroup(
  request: ClusterRegistrationRequest,
  groups: readonly string[],
  client: KubeClient,
  signal: AbortSignal,
): Promise<Approval> {
  if (groups.length === 0) return { approved: false, why: 'every cluster is approved by hand here' };
  const claimed = request.metadata.annotations?.[REQUESTED_BY_GROUPS];
  if (!claimed) return { approved: false, why: 'the request does not say who made it' };
  if (!claimed.split(',').some((group) => groups.includes(group)))
    return { approved: false, why: 'it was made by somebody whose clusters are approved by hand' };
  const gap = await admissionGap(client, request.metadata.creationTimestamp, signal);
  return gap === undefined ? { approved: true } : { approved: false, why: `who made it is not sure: ${gap}` };
}
