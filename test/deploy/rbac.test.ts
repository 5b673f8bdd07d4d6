import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { at, buildOverlay, buildWith, components, type Manifest, ofKind, one, overlays, root } from './kustomize.ts';

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

describe('R17: rights of the ServiceAccount', () => {
  test('R17: the hub has these rights and no other', () => {
    expect(hubRoles(base).flatMap(lines).sort()).toEqual([
      'cluster /nodes get,list,watch,patch',
      'cluster /pods get,list,delete',
      'cluster /pods/eviction create',
      'cluster apiregistration.k8s.io/apiservices[v1.infraops.michael.io] get,patch',
      'cluster apps/daemonsets get',
      'cluster policy/poddisruptionbudgets list,watch',
      'default events.k8s.io/events create',
      'fairlead-system /configmaps get,list,watch,create,update,delete',
      'fairlead-system /secrets create',
      'fairlead-system /secrets[fairlead-hub-tls] get,patch',
      'fairlead-system coordination.k8s.io/leases get,list,watch,create,update,delete',
    ]);
    const builtIn = [...ofKind(base, 'RoleBinding'), ...ofKind(base, 'ClusterRoleBinding')]
      .map((binding) => `${binding.metadata.namespace ?? 'cluster'} ${at<string>(binding, 'roleRef.name')}`)
      .filter((line) => !line.endsWith(' fairlead-hub') && !line.endsWith(' fairlead-hub:events'));
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
        expect(rule.resources ?? []).not.toContain('serviceaccounts/token');
      }
    }
  });

  test('R17: the component for medik8s reaches Leases of its namespace only', () => {
    const roles = rolesOf(buildWith('hub', ['medik8s'])).filter(({ metadata }) => metadata.namespace === 'medik8s-leases');
    const more = roles.flatMap(lines);
    expect(more).toEqual(['medik8s-leases coordination.k8s.io/leases get,list,watch,create,update,delete']);
  });
});

/** `group/resource` of every path of the Kubernetes API that a source file names. Our own groups are what the hub serves. */
function pathsInSources(): Set<string> {
  const found = new Set<string>();
  for (const file of globSync(['src/hub/**/*.ts', 'src/kube/**/*.ts'], { cwd: root })) {
    const text = readFileSync(join(root, file), 'utf8');
    const pattern = /\/api(?:\/v1|s\/([a-z0-9.]+)\/v1)\/(?:namespaces\/(?:\$\{[^}]+\}|default)\/)?([a-z]+)/g;
    for (const [, group = '', resource = ''] of text.matchAll(pattern))
      if (group !== 'infraops.michael.io' && resource !== 'namespaces') found.add(`${group}/${resource}`);
    if (text.includes('/eviction`')) found.add('/pods/eviction');
  }
  return found;
}

test('every path of the Kubernetes API in the sources has a rule, and every rule a path', () => {
  const delegated = ['authentication.k8s.io/tokenreviews', 'authorization.k8s.io/subjectaccessreviews'];
  const granted = hubRoles(base)
    .flatMap(rulesOf)
    .flatMap(({ apiGroups = [], resources = [] }) => apiGroups.flatMap((group) => resources.map((resource) => `${group}/${resource}`)));
  expect([...pathsInSources()].sort()).toEqual([...new Set([...granted, ...delegated])].sort());
});

describe('roles for people', () => {
  const rights = (name: string) => lines(one(base, 'ClusterRole', name));

  test('nobody is bound to them, and they are not aggregated', () => {
    const bound = [...ofKind(base, 'RoleBinding'), ...ofKind(base, 'ClusterRoleBinding')].map((binding) =>
      at<string>(binding, 'roleRef.name'),
    );
    for (const role of ofKind(base, 'ClusterRole')) {
      if (role.metadata.name.startsWith('fairlead-node-')) expect(bound).not.toContain(role.metadata.name);
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
});
