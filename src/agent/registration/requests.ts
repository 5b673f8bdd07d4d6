import type { KubeClient } from '../../kube/client.ts';
import { CLUSTERS_API, type ClusterRegistrationRequest, registrationName } from '../../kube/clusternet.ts';
import { isConflict, isNotFound, KubeError } from '../../kube/errors.ts';
import type { NewRequest } from './request.ts';

/** The calls on the agent's own ClusterRegistrationRequest, with one credential. All throw as KubeClient does. */
export type Requests = {
  get(): Promise<ClusterRegistrationRequest>;
  /** The one that is there, or else a new one. */
  getOrCreate(request: NewRequest): Promise<ClusterRegistrationRequest>;
  changeSpec(spec: Partial<ClusterRegistrationRequest['spec']>): Promise<ClusterRegistrationRequest>;
};

/** The groups that the requester says to be in; an admission policy of the parent lets only true ones pass. */
const GROUPS_ANNOTATION = 'infraops.michael.io/requested-by-groups';
const COLLECTION = `${CLUSTERS_API}/clusterregistrationrequests`;

export function requestsOf(client: KubeClient, clusterId: string, signal: AbortSignal): Requests {
  const path = `${COLLECTION}/${registrationName(clusterId)}`;
  const get = () => client.request<ClusterRegistrationRequest>({ path, signal });

  async function create(request: NewRequest): Promise<ClusterRegistrationRequest> {
    const groups = await ownGroups(client, signal);
    const annotations = { ...request.metadata.annotations, ...(groups.length > 0 && { [GROUPS_ANNOTATION]: groups.join(',') }) };
    const body = { ...request, metadata: { ...request.metadata, annotations } };
    try {
      return await client.request<ClusterRegistrationRequest>({ method: 'POST', path: COLLECTION, body, signal });
    } catch (error) {
      // An answer that was lost, or another replica.
      if (isConflict(error)) return await get();
      throw error;
    }
  }

  return {
    get,
    async getOrCreate(request) {
      try {
        return await get();
      } catch (error) {
        if (isNotFound(error)) return await create(request);
        throw error;
      }
    },
    changeSpec: (spec) =>
      client.request<ClusterRegistrationRequest>({
        method: 'PATCH',
        path,
        contentType: 'application/merge-patch+json',
        body: { spec },
        signal,
      }),
  };
}

/** Groups of the credential's owner, by SelfSubjectReview. None when the parent does not tell: then a person has to approve. */
async function ownGroups(client: KubeClient, signal: AbortSignal): Promise<string[]> {
  const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
  try {
    const review = await client.request<{ status?: { userInfo?: { groups?: string[] } } }>({
      method: 'POST',
      path: '/apis/authentication.k8s.io/v1/selfsubjectreviews',
      body,
      signal,
    });
    return (review.status?.userInfo?.groups ?? []).filter((group) => group !== '' && !group.includes(','));
  } catch (error) {
    if (error instanceof KubeError && (error.code === 403 || error.code === 404)) return [];
    throw error;
  }
}

/** The credential is no good, or no good for this any more. */
export const isRefused = (error: unknown): boolean => error instanceof KubeError && (error.code === 401 || error.code === 403);
