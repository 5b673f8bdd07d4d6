import { CLUSTER_ID_LABEL, CLUSTER_NAME_LABEL, CREATED_BY_LABEL, registrationName } from '../../kube/clusternet.ts';
import { AGENT_ACCOUNT, CREATED_BY, SECRET_BINDING, SECRET_ROLE } from './names.ts';

const RBAC = 'rbac.authorization.k8s.io';
const ROLES = `/apis/${RBAC}/v1`;

/** An object to be there: its collection, and itself. */
export type Wanted = {
  collection: string;
  object: { metadata: { name: string; labels: Record<string, string> } } & Record<string, unknown>;
};

/** Labels of everything of a cluster. */
export const clusterLabels = (clusterID: string, clusterName: string): Record<string, string> => ({
  [CREATED_BY_LABEL]: CREATED_BY,
  [CLUSTER_ID_LABEL]: clusterID,
  [CLUSTER_NAME_LABEL]: clusterName,
});

/**
 * Account and rights of an agent: its own request, its own ManagedCluster, its own socket. In the order in which they are made. `isClusternets`: besides, what only clusternet's agents
 * do: find their ManagedCluster by label, patch its labels, open a socket at clusternet's path.
 */
export function agentAccess(clusterID: string, namespace: string, clusterName: string, isClusternets = false): Wanted[] {
  const labels = clusterLabels(clusterID, clusterName);
  const subjects = [{ kind: 'ServiceAccount', name: AGENT_ACCOUNT, namespace }];
  const own = registrationName(clusterID);
  const inNamespace = `${ROLES}/namespaces/${namespace}`;
  const of = (apiVersion: string, kind: string, name: string) => ({ apiVersion, kind, metadata: { name, labels } });
  const rbac = (kind: string, name: string) => of(`${RBAC}/v1`, kind, name);
  const ref = (kind: string, name: string) => ({ apiGroup: RBAC, kind, name });
  const clusters = { apiGroups: ['clusters.clusternet.io'] };
  const sockets = { apiGroups: ['proxies.clusternet.io'] };
  return [
    { collection: `/api/v1/namespaces/${namespace}/serviceaccounts`, object: of('v1', 'ServiceAccount', AGENT_ACCOUNT) },
    {
      collection: `${ROLES}/clusterroles`,
      object: {
        ...rbac('ClusterRole', own),
        rules: [
          { ...clusters, resources: ['clusterregistrationrequests'], resourceNames: [own], verbs: ['get', 'patch', 'update'] },
          isClusternets
            ? { ...sockets, resources: ['sockets'], resourceNames: [clusterID], verbs: ['get'] }
            : { ...sockets, resources: ['sockets/attach'], resourceNames: [clusterID], verbs: ['create'] },
        ],
      },
    },
    {
      collection: `${ROLES}/clusterrolebindings`,
      object: { ...rbac('ClusterRoleBinding', own), roleRef: ref('ClusterRole', own), subjects },
    },
    {
      collection: `${inNamespace}/roles`,
      object: {
        ...rbac('Role', AGENT_ACCOUNT),
        rules: [
          // Names cannot limit list and watch by label.
          ...(isClusternets ? [{ ...clusters, resources: ['managedclusters'], verbs: ['list', 'watch'] }] : []),
          {
            ...clusters,
            resources: ['managedclusters'],
            resourceNames: [clusterName],
            verbs: isClusternets ? ['get', 'patch', 'update'] : ['get'],
          },
          { ...clusters, resources: ['managedclusters/status'], resourceNames: [clusterName], verbs: ['get', 'patch', 'update'] },
        ],
      },
    },
    {
      collection: `${inNamespace}/rolebindings`,
      object: { ...rbac('RoleBinding', AGENT_ACCOUNT), roleRef: ref('Role', AGENT_ACCOUNT), subjects },
    },
  ];
}

/** For a clusternet agent: the Secret that it insists on keeping in its namespace. Only where deploy/crds/clusternet-agents is installed. */
export function secretAccess(clusterID: string, namespace: string, clusterName: string): Wanted {
  return {
    collection: `${ROLES}/namespaces/${namespace}/rolebindings`,
    object: {
      apiVersion: `${RBAC}/v1`,
      kind: 'RoleBinding',
      metadata: { name: SECRET_BINDING, labels: clusterLabels(clusterID, clusterName) },
      roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: SECRET_ROLE },
      subjects: [{ kind: 'ServiceAccount', name: AGENT_ACCOUNT, namespace }],
    },
  };
}

/** Paths of account and rights, in the order in which they are taken away: the account first, with it all its tokens end. */
export function accessPaths(clusterID: string, namespaces: readonly string[]): string[] {
  const own = registrationName(clusterID);
  return [
    ...namespaces.flatMap((namespace) => [
      `/api/v1/namespaces/${namespace}/serviceaccounts/${AGENT_ACCOUNT}`,
      `${ROLES}/namespaces/${namespace}/rolebindings/${AGENT_ACCOUNT}`,
      `${ROLES}/namespaces/${namespace}/rolebindings/${SECRET_BINDING}`,
      `${ROLES}/namespaces/${namespace}/roles/${AGENT_ACCOUNT}`,
    ]),
    `${ROLES}/clusterroles/${own}`,
    // Last: clusters that are to be forgotten are found by it after a crash.
    `${ROLES}/clusterrolebindings/${own}`,
  ];
}
