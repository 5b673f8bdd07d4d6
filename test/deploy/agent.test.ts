import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { joinManifest } from '../../kubectl-plugins/lib/join-text.ts';
import { parseOptions } from '../../src/agent/options.ts';
import { agentAccess } from '../../src/hub/clusters/objects.ts';
import { resourcesInSources } from './api-paths.ts';
import { at, buildOverlay, deploy, type Manifest, ofKind, one } from './kustomize.ts';

type Rule = { apiGroups?: string[]; resources?: string[]; resourceNames?: string[]; nonResourceURLs?: string[]; verbs: string[] };
type Reference = { name: string; key?: string };
type Container = {
  args: string[];
  env: { name: string; valueFrom?: { configMapKeyRef?: Reference; fieldRef?: { fieldPath: string } } }[];
  ports: { name: string; containerPort: number }[];
  volumeMounts: { name: string; mountPath: string; readOnly?: boolean }[];
};
type Volume = {
  name: string;
  configMap?: { name: string; items?: { key: string; path: string }[] };
  secret?: { secretName: string; optional?: boolean };
};

const objects = buildOverlay('agent');
const deployment = one(objects, 'Deployment', 'fairlead-agent');
const pod = at<{ containers: Container[]; volumes: Volume[]; terminationGracePeriodSeconds: number }>(deployment, 'spec.template.spec');
const [container] = pod.containers;
if (!container) throw new Error('the Deployment has no container');
const roles = [...ofKind(objects, 'Role'), ...ofKind(objects, 'ClusterRole')];
const clusterScoped = ['Namespace', 'ClusterRole', 'ClusterRoleBinding'];

/** One line for each right: `where group/resource[names] verbs`. */
const lines = (role: Manifest) =>
  at<Rule[]>(role, 'rules').flatMap(({ apiGroups = [], resources = [], resourceNames, nonResourceURLs = [], verbs }) => {
    const where = role.metadata.namespace ?? 'cluster';
    const names = resourceNames ? `[${resourceNames}]` : '';
    return [
      ...apiGroups.flatMap((group) => resources.map((resource) => `${where} ${group}/${resource}${names} ${verbs}`)),
      ...nonResourceURLs.map((url) => `${where} ${url} ${verbs}`),
    ];
  });

/** What `kubectl infra join-command` makes for deploy/agent. */
const joined = parseAllDocuments(
  joinManifest({
    parent: { url: 'https://parent.example.com:6443', ca: 'CA\n', serverName: undefined, notes: [] },
    token: 'abcdef.0123456789abcdef',
    clusterName: 'edge-1',
    clusterType: undefined,
  }),
).map((document) => document.toJS() as Manifest);

test('every object has a name of its own and says its namespace', () => {
  const names = objects.map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`);
  expect(new Set(names).size).toBe(names.length);
  for (const { kind, metadata } of objects) {
    expect([kind, metadata.namespace !== undefined]).toEqual([kind, !clusterScoped.includes(kind)]);
    expect(metadata.labels?.['app.kubernetes.io/part-of']).toBe('fairlead');
  }
  expect(ofKind(objects, 'Namespace').map(({ metadata }) => metadata.name)).toEqual(['clusternet-system']);
});

test('bindings name roles and accounts that exist', () => {
  for (const binding of [...ofKind(objects, 'RoleBinding'), ...ofKind(objects, 'ClusterRoleBinding')]) {
    const { kind, name } = at<{ kind: string; name: string }>(binding, 'roleRef');
    expect(one(objects, kind, name).metadata.namespace).toBe(binding.metadata.namespace);
    for (const subject of at<{ kind: string; name: string; namespace: string }[]>(binding, 'subjects'))
      expect(one(objects, subject.kind, subject.name).metadata.namespace).toBe(subject.namespace);
  }
});

describe('R17: rights of the agent in its own cluster', () => {
  test('R17: the agent has these rights and no other', () => {
    expect(roles.flatMap(lines).sort()).toEqual(
      [
        // As the people of the parent, so that the RBAC of the cluster decides. The wildcard is uids and userextras/KEY, see rbac.yaml.
        'cluster /users impersonate',
        'cluster /groups impersonate',
        'cluster /serviceaccounts impersonate',
        'cluster authentication.k8s.io/* impersonate',
        'cluster /nodes list,watch',
        'cluster networking.k8s.io/servicecidrs[kubernetes] get',
        'cluster /version get',
        'cluster /healthz get',
        'cluster /livez get',
        'cluster /readyz get',
        'clusternet-system coordination.k8s.io/leases create',
        'clusternet-system coordination.k8s.io/leases[clusternet-agent] get,update',
        'clusternet-system /secrets create',
        'clusternet-system /secrets[parent-cluster] get,patch',
        'clusternet-system /secrets[fairlead-agent-key] get',
        'kube-system /configmaps[kubeadm-config] get',
        // Flags of the control plane tell the range of pods where kubeadm does not.
        'kube-system /pods list',
      ].sort(),
    );
  });

  test('R17: it impersonates, and may do nothing else with a wildcard; no secret of another namespace', () => {
    for (const role of roles) {
      for (const { apiGroups, resources, resourceNames, verbs } of at<Rule[]>(role, 'rules')) {
        if (verbs.join() !== 'impersonate')
          expect([apiGroups, resources, resourceNames, verbs].flatMap((list) => list ?? []).filter((word) => word.includes('*'))).toEqual(
            [],
          );
        if (role.metadata.namespace !== 'clusternet-system') expect(resources ?? []).not.toContain('secrets');
      }
    }
  });

  test('every path of the Kubernetes API in the sources has a rule here or in the parent, and every rule a path', () => {
    const resources = (rules: Rule[]) =>
      rules
        .filter(({ verbs }) => verbs.join() !== 'impersonate')
        .flatMap(({ apiGroups = [], resources = [] }) => apiGroups.flatMap((group) => resources.map((resource) => `${group}/${resource}`)));
    const here = resources(roles.flatMap((role) => at<Rule[]>(role, 'rules')));
    const inParent = resources(agentAccess('id', 'namespace', 'name').flatMap(({ object }) => (object['rules'] ?? []) as Rule[])).filter(
      // Tunnels are no resources of Kubernetes.
      (resource) => !resource.startsWith('proxies.clusternet.io/'),
    );
    const without = [
      // Every authenticated user may ask who it is.
      'authentication.k8s.io/selfsubjectreviews',
      // The base makes the namespace; the agent does where somebody runs it with a kubeconfig.
      '/namespaces',
    ];
    // Of a cluster that it made itself the agent is the administrator.
    expect([...resourcesInSources('src/agent/main.ts', 'src/agent/lifecycle/')].sort()).toEqual(
      [...new Set([...here, ...inParent, ...without])].sort(),
    );
  });
});

describe('pods of the agent', () => {
  test('the agent accepts its arguments, and finds what the join command makes', () => {
    const settings = one(joined, 'ConfigMap', 'fairlead-agent-parent');
    const data = at<Record<string, string>>(settings, 'data');
    expect(settings.metadata.namespace).toBe(deployment.metadata.namespace);
    const values = new Map(
      container.env.map(({ name, valueFrom }) => {
        if (valueFrom?.fieldRef) return [name, 'fairlead-agent-0'] as const;
        const { name: map, key = '' } = valueFrom?.configMapKeyRef ?? { name: '' };
        expect(map).toBe(settings.metadata.name);
        return [name, data[key]] as const;
      }),
    );
    const args = container.args.map((arg) => arg.replaceAll(/\$\((\w+)\)/g, (whole, name: string) => values.get(name) ?? whole));
    expect(args.join(' ')).not.toContain('$(');
    const options = parseOptions(args, {});
    if ('print' in options) throw new Error('the agent would only print');
    expect(options.warnings).toEqual([]);
    expect(options.parent.url).toBe('https://parent.example.com:6443');
    expect(options.cluster.name).toBe('edge-1');
    expect(options.bare).toBe(false);
    expect(options.namespace).toBe(deployment.metadata.namespace);
    expect(options.health).toEqual({ address: '0.0.0.0', port: container.ports.find(({ name }) => name === 'health')?.containerPort });
    expect(pod.terminationGracePeriodSeconds * 1_000).toBeGreaterThan(options.shutdownTimeoutMs);

    const volumeOf = (file: string) => {
      const mount = container.volumeMounts.find(({ mountPath }) => file.startsWith(`${mountPath}/`));
      expect(mount?.readOnly).toBe(true);
      return pod.volumes.find(({ name }) => name === mount?.name);
    };
    const ca = volumeOf(options.parent.caFile)?.configMap;
    expect(ca?.name).toBe(settings.metadata.name);
    const key = ca?.items?.find(({ path }) => options.parent.caFile.endsWith(`/${path}`))?.key ?? '';
    expect(data[key]).toBe('CA\n');
    const bootstrap = volumeOf(options.bootstrap.file)?.secret;
    // Deleted after the registration.
    expect(bootstrap).toMatchObject({ secretName: 'fairlead-agent-bootstrap', optional: true });
    expect(at(one(joined, 'Secret', bootstrap?.secretName ?? ''), 'stringData')).toEqual({
      [options.bootstrap.file.split('/').at(-1) ?? '']: 'abcdef.0123456789abcdef',
    });
  });

  test('probes ask the health port, and the network policy lets nobody else in', () => {
    for (const [probe, path] of Object.entries({ startupProbe: '/livez', livenessProbe: '/livez', readinessProbe: '/readyz' }))
      expect(at(container, `${probe}.httpGet`)).toEqual({ path, port: 'health' });
    const policy = one(objects, 'NetworkPolicy', 'fairlead-agent');
    expect(at(policy, 'spec.podSelector.matchLabels')).toEqual(at(deployment, 'spec.template.metadata.labels'));
    expect(at(policy, 'spec.policyTypes')).toEqual(['Ingress', 'Egress']);
    expect(at(policy, 'spec.ingress')).toEqual([]);
  });
});

test('the flags of the service on a machine are accepted', () => {
  const line = readFileSync(join(deploy, 'agent/out-of-cluster/agent.env'), 'utf8').match(/^FAIRLEAD_AGENT_FLAGS=(.*)$/m)?.[1] ?? '';
  const options = parseOptions(line.split(' '), {});
  expect('print' in options ? undefined : [options.bare, options.kubeconfig, options.warnings]).toEqual([
    false,
    '/etc/fairlead-agent/kubeconfig',
    [],
  ]);
});
