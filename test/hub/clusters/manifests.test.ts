import { describe, expect, test } from 'vitest';
import { agentAccess } from '../../../src/hub/clusters/objects.ts';
import { deployed, ID } from './harness.ts';

type Rule = { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] };
const rules = (file: string, name: string): Rule[] =>
  (deployed(file).find(({ kind, metadata }) => kind === 'ClusterRole' && metadata.name === name)?.['rules'] ?? []) as Rule[];
const lines = (list: Rule[]) =>
  list.flatMap(({ apiGroups, resources, resourceNames, verbs }) =>
    apiGroups.flatMap((group) => resources.map((resource) => `${group}/${resource}${resourceNames ? `[${resourceNames}]` : ''} ${verbs}`)),
  );

describe('R17: rights', () => {
  test('R17: what the hub may do for child clusters', () => {
    expect(lines(rules('hub-access.yaml', 'fairlead-hub:clusters')).sort()).toEqual([
      '/namespaces get,list,create,delete',
      '/serviceaccounts create',
      '/serviceaccounts/token[fairlead-child] create',
      '/serviceaccounts[fairlead-child] get,delete',
      'admissionregistration.k8s.io/validatingadmissionpolicies[fairlead-cluster-registration] get',
      'admissionregistration.k8s.io/validatingadmissionpolicybindings[fairlead-cluster-registration] get',
      'clusters.clusternet.io/clusterregistrationrequests get,list,watch,update,patch,delete',
      'clusters.clusternet.io/clusterregistrationrequests/status update,patch',
      'clusters.clusternet.io/managedclusters get,list,watch,create,update,patch,delete',
      'clusters.clusternet.io/managedclusters/status get,update,patch',
      'proxies.clusternet.io/sockets get',
      'proxies.clusternet.io/sockets/attach create',
      'rbac.authorization.k8s.io/clusterrolebindings get,create,update,delete',
      'rbac.authorization.k8s.io/clusterrolebindings list',
      'rbac.authorization.k8s.io/clusterroles get,create,update,delete',
      'rbac.authorization.k8s.io/rolebindings create',
      'rbac.authorization.k8s.io/rolebindings[fairlead-child,fairlead-child-secret] get,update,delete',
      'rbac.authorization.k8s.io/roles create',
      'rbac.authorization.k8s.io/roles[fairlead-child] get,update,delete',
    ]);
  });

  test('R17: a bootstrap token may ask and read the answer', () =>
    expect(lines(rules('bootstrap-access.yaml', 'fairlead:cluster-bootstrap'))).toEqual([
      'clusters.clusternet.io/clusterregistrationrequests create,get',
    ]));

  const grantedTo = (isClusternets: boolean) =>
    agentAccess(ID, 'ns', 'edge', isClusternets).flatMap(({ object }) => lines((object['rules'] ?? []) as Rule[]));

  test('R17: an agent reads and writes what is its own, with nothing for other agents', () =>
    expect(grantedTo(false).sort()).toEqual([
      `clusters.clusternet.io/clusterregistrationrequests[clusternet-${ID}] get,patch,update`,
      'clusters.clusternet.io/managedclusters/status[edge] get,patch,update',
      'clusters.clusternet.io/managedclusters[edge] get',
      `proxies.clusternet.io/sockets/attach[${ID}] create`,
    ]));

  test("R17: an agent of clusternet's gets no secrets either, and nothing without a name but the list of its own namespace", () => {
    const granted = grantedTo(true);
    expect(granted.filter((line) => !line.includes('['))).toEqual(['clusters.clusternet.io/managedclusters list,watch']);
    expect(granted).toContain(`proxies.clusternet.io/sockets[${ID}] get`);
    expect(granted.join()).not.toMatch(/secret|\*|delete|attach/);
  });
});

describe('the CRDs', () => {
  test.each([
    ['clusterregistrationrequests.yaml', ['clsrr'], 'Cluster'],
    ['managedclusters.yaml', ['mcls'], 'Namespaced'],
  ])('%s: clusternet’s names, every field described', (file, shortNames, scope) => {
    const [crd] = deployed(file);
    const spec = crd?.['spec'] as {
      group: string;
      scope: string;
      names: object;
      versions: { name: string; schema: { openAPIV3Schema: Schema } }[];
    };
    expect(spec).toMatchObject({ group: 'clusters.clusternet.io', scope, names: { shortNames, categories: ['clusternet'] } });
    expect(spec.versions.map(({ name }) => name)).toEqual(['v1beta1']);
    expect(undescribed(spec.versions[0]?.schema.openAPIV3Schema ?? {}, '')).toEqual(['.metadata']);
  });
});

type Schema = { description?: string; properties?: Record<string, Schema>; items?: Schema };
function undescribed({ properties = {}, items }: Schema, path: string): string[] {
  return [
    ...Object.entries(properties).flatMap(([name, schema]) => [
      ...(schema.description ? [] : [`${path}.${name}`]),
      ...undescribed(schema, `${path}.${name}`),
    ]),
    ...(items ? undescribed(items, `${path}[]`) : []),
  ];
}
