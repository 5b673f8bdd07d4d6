import { describe, expect, test } from 'vitest';
import { agentAccess } from '../../src/hub/clusters/objects.ts';
import { BOOTSTRAP_GROUP } from '../../src/hub/clusters/settings.ts';
import { parseOptions } from '../../src/hub/options.ts';
import { resourceIn, resourcesInSources } from './api-paths.ts';
import { at, buildOverlay, buildWith, components, type Manifest, ofKind, one, overlays } from './kustomize.ts';

type Rule = { apiGroups?: string[]; resources?: string[]; resourceNames?: string[]; nonResourceURLs?: string[]; verbs: string[] };

const rulesOf = (role: Manifest) => at<Rule[]>(role, 'rules');
const rolesOf = (objects: readonly Manifest[]) => [...ofKind(objects, 'Role'), ...ofKind(objects, 'ClusterRole')];

/** One line for each right: `where group/resource[names] verbs`. */
function lines(role: Manifest): string[] {
  const where = role.kind === 'ClusterRole' ? 'cluster' : role.metadata.namespace;
  return rulesOf(role).flatMap(({ apiGroups = [], resources = [], resourceNames, verbs }) =>
    apiGroups.flatMap((group) =>
      resources.map((resource) => `${where} ${group}/${resource}${resourceNames ? `[${resourceNames}]` : ''} ${verbs}`),
    ),
  );
}

/** The roles that bindings give to the hub, without those that Kubernetes brings. */
function hubRoles(objects: readonly Manifest[]): Manifest[] {
  return [...ofKind(objects, 'RoleBinding'), ...ofKind(objects, 'ClusterRoleBinding')]
    .filter((binding) => at<{ name: string }[]>(binding, 'subjects').some(({ name }) => name === 'fairlead-hub'))
    .flatMap((binding) =>
      rolesOf(objects).filter(
        (role) =>
          role.kind === at(binding, 'roleRef.kind') &&
          role.metadata.name === at(binding, 'roleRef.name') &&
          role.metadata.namespace === binding.metadata.namespace,
      ),
    );
}

const base = buildOverlay('hub');
const bootstrapRole = 'fairlead:cluster-bootstrap';

/** All that the hub may do; every line must be known to be used. */
const RIGHTS = [
  // deploy/hub/rbac.yaml
  'cluster /nodes get,list,watch,patch',
  'cluster /pods get,list,delete',
  'cluster /pods/eviction create',
  'cluster apiregistration.k8s.io/apiservices[v1.infraops.michael.io,v1alpha1.proxies.clusternet.io] get,patch',
  'cluster apiregistration.k8s.io/apiservices[v1.infraops.michael.io] list,watch',
  'cluster apps/daemonsets get',
  'cluster policy/poddisruptionbudgets list,watch',
  'default events.k8s.io/events create',
  'fairlead-system /configmaps get,list,watch,create,update,delete',
  'fairlead-system /secrets create',
  'fairlead-system /secrets[fairlead-hub-tls,fairlead-hub-peers] get,patch',
  'fairlead-system coordination.k8s.io/leases get,list,watch,create,update,delete',
  'fairlead-system discovery.k8s.io/endpointslices list,watch',
  // deploy/crds/hub-access.yaml
  'cluster /namespaces get,list,create,delete',
  'cluster /serviceaccounts create',
  'cluster /serviceaccounts[fairlead-child] get,delete',
  'cluster /serviceaccounts/token[fairlead-child] create',
  'cluster admissionregistration.k8s.io/validatingadmissionpolicies[fairlead-cluster-registration] get',
  'cluster admissionregistration.k8s.io/validatingadmissionpolicybindings[fairlead-cluster-registration] get',
  'cluster clusters.clusternet.io/clusterregistrationrequests get,list,watch,update,patch,delete',
  'cluster clusters.clusternet.io/clusterregistrationrequests/status update,patch',
  'cluster clusters.clusternet.io/managedclusters get,list,watch,create,update,patch,delete',
  'cluster clusters.clusternet.io/managedclusters/status get,update,patch',
  'cluster proxies.clusternet.io/sockets get',
  'cluster proxies.clusternet.io/sockets/attach create',
  'cluster rbac.authorization.k8s.io/clusterroles get,create,update,delete',
  'cluster rbac.authorization.k8s.io/clusterrolebindings get,create,update,delete',
  'cluster rbac.authorization.k8s.io/clusterrolebindings list',
  'cluster rbac.authorization.k8s.io/roles create',
  'cluster rbac.authorization.k8s.io/roles[fairlead-child] get,update,delete',
  'cluster rbac.authorization.k8s.io/rolebindings create',
  'cluster rbac.authorization.k8s.io/rolebindings[fairlead-child,fairlead-child-secret] get,update,delete',
].sort();

describe('R17: rights of the ServiceAccount', () => {
  test('R17: the hub has these rights and no other', () => {
    expect(hubRoles(base).flatMap(lines).sort()).toEqual(RIGHTS);
    const builtIn = [...ofKind(base, 'RoleBinding'), ...ofKind(base, 'ClusterRoleBinding')]
      .map((binding) => `${binding.metadata.namespace ?? 'cluster'} ${at<string>(binding, 'roleRef.name')}`)
      .filter((line) => !hubRoles(base).some(({ metadata }) => line.endsWith(` ${metadata.name}`)) && !line.endsWith(bootstrapRole));
    expect(builtIn.sort()).toEqual(['cluster system:auth-delegator', 'kube-system extension-apiserver-authentication-reader']);
  });

  test.each(overlays)('R17: %s gives the hub the rights of the base', (overlay) => {
    expect(hubRoles(buildOverlay(overlay)).flatMap(lines).sort()).toEqual(hubRoles(base).flatMap(lines).sort());
  });

  test('R17: no wildcard, no secrets of the cluster, no right to become somebody else, with all components', () => {
    for (const role of rolesOf(buildWith('hub', components))) {
      for (const rule of rulesOf(role)) {
        const values = [rule.apiGroups, rule.resources, rule.resourceNames, rule.nonResourceURLs, rule.verbs].flatMap((list) => list ?? []);
        expect(values.filter((value) => value.includes('*'))).toEqual([]);
        expect(rule.verbs.filter((verb) => ['impersonate', 'escalate', 'bind', 'deletecollection'].includes(verb))).toEqual([]);
        if (role.kind === 'ClusterRole') expect(rule.resources ?? []).not.toContain('secrets');
        // Tokens of the agents' accounts only.
        if (rule.resources?.includes('serviceaccounts/token'))
          expect(rule).toEqual({
            apiGroups: [''],
            resources: ['serviceaccounts/token'],
            resourceNames: ['fairlead-child'],
            verbs: ['create'],
          });
      }
    }
  });

  test('R17: the component for medik8s reaches Leases of its namespace only', () => {
    const roles = rolesOf(buildWith('hub', ['medik8s'])).filter(({ metadata }) => metadata.namespace === 'medik8s-leases');
    const more = roles.flatMap(lines);
    expect(more).toEqual(['medik8s-leases coordination.k8s.io/leases get,list,watch,create,update,delete']);
  });
});

/** What the hub must have itself because it gives it to agents: kube-apiserver lets nobody give more than they have. */
const onlyToGrant = ['proxies.clusternet.io/sockets', 'proxies.clusternet.io/sockets/attach'];

test('every path of the Kubernetes API in the sources has a rule, and every rule a path', () => {
  const delegated = ['authentication.k8s.io/tokenreviews', 'authorization.k8s.io/subjectaccessreviews'];
  const granted = hubRoles(base)
    .flatMap(rulesOf)
    .flatMap(({ apiGroups = [], resources = [] }) => apiGroups.flatMap((group) => resources.map((resource) => `${group}/${resource}`)))
    .filter((resource) => !onlyToGrant.includes(resource));
  expect([...resourcesInSources('src/hub/main.ts')].sort()).toEqual([...new Set([...granted, ...delegated])].sort());
});

test.each([
  ['/api/v1/nodes', '/nodes'],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: as it stands in a source.
  ['/api/v1/namespaces/${namespace}/pods/${pod.metadata?.name}/eviction', '/pods/eviction'],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: as it stands in a source.
  ['/api/v1/namespaces/${name}', '/namespaces'],
  ['/apis/clusters.clusternet.io/v1beta1/managedclusters', 'clusters.clusternet.io/managedclusters'],
  ['/apis', undefined],
  ['/apis/apps/v1', undefined],
])('the check of paths reads %s', (path, resource) => {
  expect(resourceIn(path)).toBe(resource);
});

describe('R17: agents and their bootstrap tokens', () => {
  const grants = (role: Manifest) =>
    rulesOf(role).flatMap(({ apiGroups = [], resources = [], verbs }) =>
      apiGroups.flatMap((group) => resources.flatMap((resource) => verbs.map((verb) => `${group}/${resource} ${verb}`))),
    );

  test('R17: the hub has all that it gives to agents, or kube-apiserver would refuse it', () => {
    const own = new Set(
      hubRoles(base)
        .filter(({ kind }) => kind === 'ClusterRole')
        .flatMap(grants),
    );
    const roles = agentAccess('6f1a2f0c-3f0e-4c0c-9a2b-6d1d2f3a4b5c', 'clusternet-abcde', 'edge-1')
      .map(({ object }) => object as unknown as Manifest)
      .filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole');
    expect(roles).toHaveLength(2);
    for (const role of roles) expect(grants(role).filter((right) => !own.has(right))).toEqual([]);
  });

  test('R17: only the group of bootstrap tokens is bound, and it may ask and read the answer by its name', () => {
    const groups = [...ofKind(base, 'RoleBinding'), ...ofKind(base, 'ClusterRoleBinding')].flatMap((binding) =>
      at<{ kind: string; name: string }[]>(binding, 'subjects')
        .filter(({ kind }) => kind !== 'ServiceAccount')
        .map(({ kind, name }) => `${kind} ${name}: ${at<string>(binding, 'roleRef.name')}`),
    );
    expect(groups).toEqual([`Group ${BOOTSTRAP_GROUP}: ${bootstrapRole}`]);
    expect(lines(one(base, 'ClusterRole', bootstrapRole))).toEqual([
      'cluster clusters.clusternet.io/clusterregistrationrequests create,get',
    ]);
    const options = parseOptions([], {});
    expect('clusters' in options && options.clusters.approveGroups).toEqual([BOOTSTRAP_GROUP]);
  });

  test("R17: clusternet's agents reach one Secret, by a component that the base does not have", () => {
    const name = 'fairlead:clusternet-agent-secret';
    expect(ofKind(base, 'ClusterRole').map(({ metadata }) => metadata.name)).not.toContain(name);
    const objects = buildWith('hub', ['../crds/clusternet-agents']);
    expect(lines(one(objects, 'ClusterRole', name))).toEqual([
      'cluster /secrets create',
      'cluster /secrets[child-cluster-deployer] get,update',
    ]);
    expect(ofKind(objects, 'ClusterRoleBinding').map((binding) => at(binding, 'roleRef.name'))).not.toContain(name);
    const more = hubRoles(objects).flatMap(lines);
    expect(more.filter((line) => !RIGHTS.includes(line))).toEqual([`cluster rbac.authorization.k8s.io/clusterroles[${name}] bind`]);
  });
});

describe('roles for people', () => {
  const rights = (name: string) => lines(one(base, 'ClusterRole', name));

  test('nobody is bound to them, and they are not aggregated', () => {
    const bound = [...ofKind(base, 'RoleBinding'), ...ofKind(base, 'ClusterRoleBinding')].map((binding) =>
      at<string>(binding, 'roleRef.name'),
    );
    for (const role of ofKind(base, 'ClusterRole')) {
      if (/^fairlead(-node|-cluster|:cluster-approver)/.test(role.metadata.name)) expect(bound).not.toContain(role.metadata.name);
      expect(Object.keys(role.metadata.labels ?? {}).filter((label) => label.includes('aggregate-to'))).toEqual([]);
    }
  });

  test('a viewer can only read, an operator is a viewer who acts, force is apart', () => {
    const viewer = rights('fairlead-node-viewer');
    expect(viewer.map((line) => line.split(' ').at(-1))).toEqual(['get,list,watch', 'get,list,watch', 'get', 'get']);
    expect(rights('fairlead-node-operator').filter((line) => !viewer.includes(line))).toEqual(
      ['nodes/restart', 'nodes/stop', 'nodes/start', 'nodeoperations/cancel'].map((name) => `cluster infraops.michael.io/${name} create`),
    );
    expect(rights('fairlead-node-force')).toEqual(
      ['restart', 'stop', 'start'].map((name) => `cluster infraops.michael.io/nodes/${name} force`),
    );
  });

  test('a user of clusters may send requests through every tunnel, a viewer only look; who lets clusters in may not enter them', () => {
    const seeing = 'cluster infraops.michael.io/clusters get,list,watch';
    expect(rights('fairlead-cluster-viewer')).toEqual([
      seeing,
      ...['lifecycle', 'certs', 'audit', 'log', 'metrics'].map((name) => `cluster infraops.michael.io/clusters/${name} get`),
    ]);
    expect(rights('fairlead-cluster-user')).toEqual([seeing, 'cluster proxies.clusternet.io/sockets/proxy get,create,update,patch,delete']);
    expect(rights('fairlead:cluster-approver')).toEqual([
      'cluster clusters.clusternet.io/clusterregistrationrequests get,list,watch,patch,approve',
      'cluster clusters.clusternet.io/managedclusters get,list,watch',
    ]);
  });

  test("an operator of clusters is a viewer who acts; the administrator's kubeconfig of a cluster is apart", () => {
    const allowed = (name: string) =>
      lines(one(base, 'ClusterRole', name)).flatMap((line) => {
        const [, resource = '', verbs = ''] = line.split(' ');
        return verbs.split(',').map((verb) => `${verb} ${resource.split('/')[1]}/${resource.split('/')[2] ?? ''}`);
      });
    const viewer = allowed('fairlead-cluster-viewer');
    const operator = allowed('fairlead-cluster-operator');
    expect(viewer.filter((right) => !operator.includes(right))).toEqual([]);
    expect(operator.filter((right) => !viewer.includes(right)).sort()).toEqual([
      'create clusters/lifecycle',
      'create clusters/repair',
      'create clusters/restart',
      'delete clusters/certs',
      'delete clusters/lifecycle',
      'patch clusters/lifecycle',
      'update clusters/lifecycle',
    ]);
    expect(allowed('fairlead-cluster-kubeconfig')).toEqual(['get clusters/kubeconfig']);
    const mayHave = ofKind(base, 'ClusterRole').filter((role) => lines(role).some((line) => line.includes('clusters/kubeconfig')));
    expect(mayHave.map(({ metadata }) => metadata.name)).toEqual(['fairlead-cluster-kubeconfig']);
  });
});
