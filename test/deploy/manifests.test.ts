import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FLAGS } from '../../src/hub/hub-flags.ts';
import { parseAccounts } from '../../src/hub/nodes/clouds/accounts.ts';
import { clouds } from '../../src/hub/nodes/clouds/registry.ts';
import { parseOptions } from '../../src/hub/options.ts';
import { at, build, buildOverlay, buildWith, components, deploy, type Manifest, ofKind, one, overlays } from './kustomize.ts';

type Container = { args: string[]; env: { name: string }[]; ports: { name: string; containerPort: number }[]; volumeMounts?: Mount[] };
type Mount = { name: string; mountPath: string };
type Volume = { name: string; configMap?: { name: string }; secret?: { secretName: string } };
type Spread = {
  topologyKey: string;
  whenUnsatisfiable: string;
  maxSkew: number;
  minDomains?: number;
  labelSelector: { matchLabels: object };
};
type Port = { name: string; port: number; targetPort?: string | number };

const clusterScoped = new Set([
  'Namespace',
  'ClusterRole',
  'ClusterRoleBinding',
  'APIService',
  'FlowSchema',
  'CustomResourceDefinition',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
]);

/** APIServices with their order among others: [groupPriorityMinimum, versionPriority]. */
const apis = { 'v1.infraops.michael.io': [2000, 10], 'v1alpha1.proxies.clusternet.io': [1000, 100] } as const;

function hubContainer(objects: readonly Manifest[]): Container {
  const [container] = at<Container[]>(one(objects, 'Deployment', 'fairlead-hub'), 'spec.template.spec.containers');
  if (!container) throw new Error('the Deployment has no container');
  return container;
}

describe.each(overlays)('%s', (overlay) => {
  const objects = buildOverlay(overlay);

  test('every object has a name of its own and says its namespace', () => {
    const names = objects.map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
    for (const { kind, metadata } of objects) expect([kind, metadata.namespace !== undefined]).toEqual([kind, !clusterScoped.has(kind)]);
  });

  test('every namespace is made here or in every cluster', () => {
    const known = ['fairlead-system', 'kube-system', 'default'];
    expect(ofKind(objects, 'Namespace').map(({ metadata }) => metadata.name)).toEqual(['fairlead-system']);
    expect(objects.flatMap(({ metadata }) => metadata.namespace ?? []).filter((name) => !known.includes(name))).toEqual([]);
  });

  test('each APIService leads to the port https of the Service, and trusts no certificate blindly', () => {
    const service = one(objects, 'Service', 'fairlead-hub');
    const ports = at<Port[]>(service, 'spec.ports');
    expect(ports.map(({ name, port }) => ({ name, port }))).toEqual([
      { name: 'https', port: 443 },
      { name: 'peers', port: 10251 },
    ]);
    expect(at(service, 'spec.type')).toBe('ClusterIP');
    expect(ofKind(objects, 'APIService').map(({ metadata }) => metadata.name)).toEqual(Object.keys(apis));
    for (const [name, [groupPriorityMinimum, versionPriority]] of Object.entries(apis)) {
      const [version, ...group] = name.split('.');
      expect(at(one(objects, 'APIService', name), 'spec')).toEqual({
        group: group.join('.'),
        version,
        groupPriorityMinimum,
        versionPriority,
        service: { name: service.metadata.name, namespace: service.metadata.namespace, port: ports[0]?.port },
      });
    }
  });

  test('the CRDs can be left out of a deletion, and are not pruned', () => {
    const crds = ofKind(objects, 'CustomResourceDefinition');
    expect(crds.map(({ metadata }) => metadata.name).sort()).toEqual([
      'clusterregistrationrequests.clusters.clusternet.io',
      'managedclusters.clusters.clusternet.io',
    ]);
    for (const { metadata } of crds) {
      expect(metadata.labels?.['app.kubernetes.io/component']).toBe('crd');
      expect(metadata.annotations).toMatchObject({
        'argocd.argoproj.io/sync-options': 'Prune=false,Delete=false',
        'kustomize.toolkit.fluxcd.io/prune': 'disabled',
      });
    }
    const others = objects.filter(({ kind }) => kind !== 'CustomResourceDefinition');
    expect(others.filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/component'] === 'crd')).toEqual([]);
  });

  test("only the tunnels of clusternet's agents are kept out of kube-apiserver's seats", () => {
    const flow = one(objects, 'FlowSchema', 'fairlead-clusternet-sockets');
    expect(at(flow, 'spec.priorityLevelConfiguration.name')).toBe('exempt');
    expect(at<number>(flow, 'spec.matchingPrecedence')).toBeLessThan(9000);
    expect(at(flow, 'spec.rules')).toEqual([
      {
        subjects: [{ kind: 'Group', group: { name: 'system:serviceaccounts' } }],
        resourceRules: [{ apiGroups: ['proxies.clusternet.io'], resources: ['sockets'], verbs: ['get'], clusterScope: true }],
      },
    ]);
  });

  test('bindings name roles and accounts that exist', () => {
    const builtIn = ['system:auth-delegator', 'extension-apiserver-authentication-reader'];
    for (const binding of [...ofKind(objects, 'RoleBinding'), ...ofKind(objects, 'ClusterRoleBinding')]) {
      const role = at<{ kind: string; name: string }>(binding, 'roleRef');
      if (!builtIn.includes(role.name)) {
        const found = one(objects, role.kind, role.name);
        if (role.kind === 'Role') expect(found.metadata.namespace).toBe(binding.metadata.namespace);
      }
      for (const subject of at<{ kind: string; name: string; namespace: string }[]>(binding, 'subjects')) {
        // Groups are not objects; rbac.test.ts says which are bound.
        if (subject.kind === 'Group') continue;
        expect(one(objects, subject.kind, subject.name).metadata.namespace).toBe(subject.namespace);
      }
    }
  });
});

describe.each(overlays.filter((name) => name !== 'overlays/out-of-cluster'))('pods of %s', (overlay) => {
  const objects = buildOverlay(overlay);
  const deployment = one(objects, 'Deployment', 'fairlead-hub');
  const container = hubContainer(objects);

  test('the hub accepts its arguments, and they agree with the other objects', () => {
    const args = container.args.map((arg) => arg.replace('$(POD_NAMESPACE)', 'fairlead-system').replace('$(NODE_NAME)', 'worker-1'));
    expect(args.join(' ')).not.toContain('$(');
    const options = parseOptions(args, {});
    if ('print' in options) throw new Error('the hub would only print');
    expect(container.ports.map(({ name, containerPort }) => [name, containerPort])).toEqual([
      ['https', options.securePort],
      ['peers', options.clusters.peerPort],
    ]);
    expect(options.clusters.directPort).toBe(0);
    expect(options.serviceName).toBe(one(objects, 'Service', 'fairlead-hub').metadata.name);
    expect(options.nodes.namespace).toBe(deployment.metadata.namespace);
    expect(options.nodeName).toBe('worker-1');
    expect(options.leaderElection.enabled).toBe(true);
    expect(options.apiServices).toEqual(ofKind(objects, 'APIService').map(({ metadata }) => metadata.name));
    const grace = at<number>(deployment, 'spec.template.spec.terminationGracePeriodSeconds');
    // First the tunnels here, then what other replicas sent through them.
    expect(grace * 1000).toBeGreaterThan(2 * (options.shutdownDelayMs + options.shutdownTimeoutMs));
  });

  test('Service, probes, budget, spread and network policy find the pods and their port', () => {
    const labels = at<Record<string, string>>(deployment, 'spec.template.metadata.labels');
    const name = { 'app.kubernetes.io/name': labels['app.kubernetes.io/name'] };
    const service = one(objects, 'Service', 'fairlead-hub');
    expect(at(service, 'spec.selector')).toEqual(name);
    expect(at<Port[]>(service, 'spec.ports').map((port) => port.targetPort)).toEqual(container.ports.map((port) => port.name));
    expect(at(one(objects, 'PodDisruptionBudget', 'fairlead-hub'), 'spec.selector.matchLabels')).toEqual(name);
    const policy = one(objects, 'NetworkPolicy', 'fairlead-hub');
    expect(at(policy, 'spec.podSelector.matchLabels')).toEqual(name);
    const [https, peers] = container.ports.map(({ containerPort: port }) => [{ protocol: 'TCP', port }]);
    const replicas = [{ podSelector: { matchLabels: name } }];
    expect(at(policy, 'spec.ingress')).toEqual([{ ports: https }, { from: replicas, ports: peers }]);
    expect(at<object[]>(policy, 'spec.egress')).toContainEqual({ to: replicas, ports: peers });
    for (const [probe, path] of Object.entries({ startupProbe: '/livez', livenessProbe: '/livez', readinessProbe: '/readyz' }))
      expect(at(container, `${probe}.httpGet`)).toEqual({ path, port: 'https', scheme: 'HTTPS' });
    const spread = at<Spread[]>(deployment, 'spec.template.spec.topologySpreadConstraints');
    expect(spread.map((one) => one.topologyKey)).toEqual(['kubernetes.io/hostname', 'topology.kubernetes.io/zone']);
    for (const one of spread) expect(one.labelSelector.matchLabels).toEqual(name);
    // Without minDomains one eligible node counts as evenly spread, however many replicas it holds; with ScheduleAnyway it is refused.
    expect(spread.map((one) => [one.whenUnsatisfiable, one.maxSkew, one.minDomains])).toEqual([
      ['DoNotSchedule', 1, at(deployment, 'spec.replicas')],
      ['ScheduleAnyway', 1, undefined],
    ]);
  });

  test('two replicas, never fewer during an update', () => {
    expect(at(deployment, 'spec.replicas')).toBe(2);
    expect(at(deployment, 'spec.strategy.rollingUpdate')).toEqual({ maxUnavailable: 0, maxSurge: 1 });
    expect(at(one(objects, 'PodDisruptionBudget', 'fairlead-hub'), 'spec.maxUnavailable')).toBe(1);
  });

  test('the accounts file is mounted where the flag says, and the hub accepts it', () => {
    const volumes = at<Volume[] | undefined>(deployment, 'spec.template.spec.volumes') ?? [];
    const mounts = container.volumeMounts ?? [];
    const file = container.args.find((arg) => arg.startsWith('--cloud-config='))?.split('=')[1];
    expect(file !== undefined).toBe(overlay.endsWith('tke') || overlay.endsWith('static-secrets'));
    expect(mounts.map((mount) => mount.name).sort()).toEqual(volumes.map((volume) => volume.name).sort());
    if (file === undefined) return;
    const mount = mounts.find(({ mountPath }) => file.startsWith(`${mountPath}/`));
    const map = volumes.find((volume) => volume.name === mount?.name)?.configMap?.name ?? '';
    const text = at<Record<string, string>>(one(objects, 'ConfigMap', map), 'data')[file.split('/').at(-1) ?? ''] ?? '';
    const accounts = parseAccounts(file, text, clouds);
    expect(accounts.length).toBeGreaterThan(0);
    for (const { credentials } of accounts) {
      for (const path of Object.values(credentials.files ?? {}))
        expect(mounts.some(({ mountPath }) => path.startsWith(`${mountPath}/`))).toBe(true);
    }
    for (const { secret } of volumes) if (secret) expect(readFileSync(join(deploy, 'README.md'), 'utf8')).toContain(secret.secretName);
  });
});

describe('network policies', () => {
  type Rule = { to: { ipBlock?: { cidr: string; except?: string[] } }[]; ports: { protocol: string; port: number }[] };
  const bits = (ip: string) => ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const within = (ip: string, cidr: string) => {
    const [net = '', length = '32'] = cidr.split('/');
    const size = 2 ** (32 - Number(length));
    return !net.includes(':') && Math.floor(bits(ip) / size) === Math.floor(bits(net) / size);
  };
  /** Whether the hub's pods may open a TCP connection to an IPv4 address. */
  const allows = (objects: readonly Manifest[], ip: string, port: number) =>
    ofKind(objects, 'NetworkPolicy')
      .flatMap((policy) => at<Rule[] | undefined>(policy, 'spec.egress') ?? [])
      .some(
        ({ to, ports }) =>
          ports.some((one) => one.protocol === 'TCP' && one.port === port) &&
          to.some(({ ipBlock }) => ipBlock && within(ip, ipBlock.cidr) && !ipBlock.except?.some((cidr) => within(ip, cidr))),
      );

  test.each(overlays)('%s denies by default', (overlay) => {
    const denied = one(buildOverlay(overlay), 'NetworkPolicy', 'default-deny');
    expect(at(denied, 'spec')).toEqual({ podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
  });

  test('EKS with IRSA reaches STS, EC2 and kube-apiserver, and not the metadata service', () => {
    const objects = buildOverlay('overlays/eks-irsa');
    for (const ip of ['203.0.113.7', '10.0.0.5']) expect(allows(objects, ip, 443)).toBe(true);
    for (const port of [80, 443]) expect(allows(objects, '169.254.169.254', port)).toBe(false);
    expect(allows(objects, '203.0.113.7', 80)).toBe(false);
  });

  test('TKE reaches its kube-apiserver and the endpoints inside of the VPC, and not the metadata service', () => {
    const objects = buildOverlay('overlays/tke');
    expect(allows(objects, '169.254.128.7', 60002)).toBe(true);
    expect(allows(objects, '169.254.0.30', 443)).toBe(true);
    expect(allows(objects, '169.254.0.23', 80)).toBe(false);
  });

  test('the metadata services are reached with their component only', () => {
    for (const ip of ['169.254.169.254', '169.254.170.23', '169.254.0.23', '100.100.100.200']) {
      expect([ip, allows(buildOverlay('hub'), ip, 80)]).toEqual([ip, false]);
      expect([ip, allows(buildWith('hub', ['instance-metadata']), ip, 80)]).toEqual([ip, true]);
    }
  });
});

test.each(components)('component %s adds to every overlay', (component) => {
  for (const overlay of overlays) expect(buildWith(overlay, [component]).length).toBeGreaterThan(buildOverlay(overlay).length);
});

test('all components together', () => {
  expect(ofKind(buildWith('overlays/eks-irsa', components), 'ConfigMap').map(({ metadata }) => metadata.name)).toEqual([
    'fairlead-dashboard',
  ]);
});

test('the roles of EKS and the ServiceAccount are made for each other', () => {
  const account = one(buildOverlay('overlays/eks-irsa'), 'ServiceAccount', 'fairlead-hub');
  const read = (file: string) => JSON.parse(readFileSync(join(deploy, 'overlays/eks-irsa', file), 'utf8')) as object;
  const trust = JSON.stringify(read('trust-policy.json'));
  expect(trust).toContain(`:sub":"system:serviceaccount:${account.metadata.namespace}:${account.metadata.name}"`);
  expect(account.metadata.annotations?.['eks.amazonaws.com/role-arn']).toMatch(/^arn:aws:iam::\d{12}:role\//);
  const actions = at<{ Action: string | string[] }[]>(read('iam-policy.json'), 'Statement').flatMap((statement) => statement.Action);
  expect(actions.sort()).toEqual(['ec2:DescribeInstances', 'ec2:RebootInstances', 'ec2:StartInstances', 'ec2:StopInstances']);
});

test('out of the cluster: no pods, and a Service whose EndpointSlice has the same port name', () => {
  const objects = buildOverlay('overlays/out-of-cluster');
  for (const kind of ['Deployment', 'PodDisruptionBudget', 'ResourceQuota']) expect(ofKind(objects, kind)).toEqual([]);
  const service = one(objects, 'Service', 'fairlead-hub');
  const slice = one(objects, 'EndpointSlice', 'fairlead-hub');
  expect(at(service, 'spec.selector')).toBeUndefined();
  expect(slice.metadata.labels?.['kubernetes.io/service-name']).toBe(service.metadata.name);
  const ports = at<{ name: string; port: number }[]>(slice, 'ports').map(({ name, port }) => [name, port]);
  expect(ports).toEqual(at<Port[]>(service, 'spec.ports').map(({ name, targetPort }) => [name, targetPort]));
  const preset = (flag: string) => Number(FLAGS.find(({ name }) => name === flag)?.default);
  expect(ports).toEqual([
    ['https', preset('secure-port')],
    ['peers', preset('peer-port')],
  ]);
});

test('the Secrets of the certificates are those that the roles and the ServiceMonitor name', () => {
  const [secret, peers] = ['cert-secret-name', 'peer-secret-name'].map((name) => FLAGS.find((flag) => flag.name === name)?.default);
  const role = ofKind(buildOverlay('hub'), 'Role').find(({ metadata }) => metadata.name === 'fairlead-hub');
  const rules = at<{ resources: string[]; resourceNames?: string[] }[]>(role, 'rules');
  expect(rules.flatMap((rule) => (rule.resources.includes('secrets') ? (rule.resourceNames ?? []) : []))).toEqual([secret, peers]);
  const monitor = one(buildWith('hub', ['servicemonitor']), 'ServiceMonitor', 'fairlead-hub');
  expect(at(monitor, 'spec.endpoints.0.tlsConfig.ca.secret.name')).toBe(secret);
  expect(at(monitor, 'spec.endpoints.0.tlsConfig.serverName')).toBe('fairlead-hub.fairlead-system.svc');
});

test('a kustomization that does not build is noticed', () => {
  expect(() => build(join(deploy, 'no-such-folder'))).toThrow();
});
