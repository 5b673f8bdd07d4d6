import { createHash } from 'node:crypto';

/** Names and labels of what belongs to a cluster. */

/** Value of the label clusternet.io/created-by on what this room made. */
export const CREATED_BY = 'fairlead-hub';

/** The agent's ServiceAccount, Role and RoleBinding in the dedicated namespace. One name for all, so that the hub's own rights can be limited to it. */
export const AGENT_ACCOUNT = 'fairlead-child';
/** RoleBinding for the Secret of clusternet's agents. */
export const SECRET_BINDING = 'fairlead-child-secret';
/** ClusterRole of deploy/crds/clusternet-agents. */
export const SECRET_ROLE = 'fairlead:clusternet-agent-secret';

/** On a request: groups of who made it, comma-separated. deploy/crds/admission-policy.yaml keeps it true. */
export const REQUESTED_BY_GROUPS = 'infraops.michael.io/requested-by-groups';

/** On a request, by kubectl infra: why a person decided as he did. */
export const DECISION_REASON = 'infraops.michael.io/decision-reason';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const PREFIX = 'clusternet-';

export const isClusterID = (text: string): boolean => UUID.test(text);

/** The cluster id in the name of a request; undefined when there is none. */
export function clusterIDOf(requestName: string): string | undefined {
  const id = requestName.startsWith(PREFIX) ? requestName.slice(PREFIX.length) : '';
  return isClusterID(id) ? id : undefined;
}

/** Names that the dedicated namespace of a cluster may get, the first that is free counts. The same for each attempt. */
export function namespaceNames(clusterID: string): string[] {
  const hash = createHash('sha256').update(clusterID).digest('hex');
  return [5, 10, 20].map((length) => `${PREFIX}${hash.slice(0, length)}`);
}
