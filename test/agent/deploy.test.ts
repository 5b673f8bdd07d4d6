import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AGENT_LEASE } from '../../src/agent/child/cluster-id.ts';
import { parseOptions } from '../../src/agent/options.ts';
import { CREDENTIAL_SECRET, KEY_SECRET } from '../../src/agent/registration/secret-store.ts';
import { at, build, deploy, type Manifest, ofKind, one } from '../deploy/kustomize.ts';

type Rule = { apiGroups?: string[]; resources?: string[]; resourceNames?: string[]; verbs: string[]; nonResourceURLs?: string[] };
type Container = { args: string[]; env: { name: string }[]; ports: { containerPort: number }[]; securityContext: object };

const folder = join(deploy, 'agent');
const objects = build(folder);
const pod = at<{ containers: Container[]; securityContext: object; terminationGracePeriodSeconds: number }>(
  one(objects, 'Deployment', 'fairlead-agent'),
  'spec.template.spec',
);
const rulesOf = (kind: string, name: string) => at<Rule[]>(one(objects, kind, name), 'rules');

test('the arguments of the Deployment are flags of the agent, and probes ask the port that it serves', () => {
  const [container] = pod.containers;
  const values: Record<string, string> = { PARENT_URL: 'https://parent:6443', CLUSTER_NAME: 'edge', POD_NAME: 'agent-1' };
  expect(container?.env.map(({ name }) => name).sort()).toEqual(Object.keys(values).sort());
  const args = container?.args.map((argument) => argument.replace(/\$\((\w+)\)/g, (_all, name: string) => values[name] ?? '')) ?? [];
  const options = parseOptions(args, {});
  if ('print' in options) throw new Error('prints');
  expect(options).toMatchObject({ namespace: 'clusternet-system', identity: 'agent-1', bare: false, warnings: [] });
  expect(container?.ports.map(({ containerPort }) => containerPort)).toEqual([options.health.port]);
  expect(pod.terminationGracePeriodSeconds * 1_000).toBeGreaterThan(options.shutdownTimeoutMs);
});

test('R67: the pod is locked down as the restricted profile demands, and nobody may call it', () => {
  const [container] = pod.containers;
  expect(container?.securityContext).toMatchObject({
    runAsNonRoot: true,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  });
  expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 65532 });
  expect(at(one(objects, 'NetworkPolicy', 'fairlead-agent'), 'spec.ingress')).toEqual([]);
  expect(one(objects, 'Namespace', 'clusternet-system').metadata.labels?.['pod-security.kubernetes.io/enforce']).toBe('restricted');
});

test('the agent reads its own Secrets and Lease only, by name, and lists no Secrets anywhere', () => {
  const own = rulesOf('Role', 'fairlead-agent').filter(({ verbs }) => verbs.join() !== 'create');
  expect(own.flatMap(({ resourceNames }) => resourceNames).sort()).toEqual([AGENT_LEASE, KEY_SECRET, CREDENTIAL_SECRET].sort());
  const everywhere = rulesOf('ClusterRole', 'fairlead-agent');
  for (const { resources = [], verbs } of everywhere) {
    expect(resources).not.toContain('secrets');
    if (resources.includes('*')) expect(verbs).toEqual(['impersonate']);
    expect(verbs).not.toContain('*');
  }
  const bound = [...ofKind(objects, 'ClusterRoleBinding'), ...ofKind(objects, 'RoleBinding')];
  const subjects = bound.flatMap((binding: Manifest) => at<{ kind: string; name: string }[]>(binding, 'subjects'));
  expect(new Set(subjects.map(({ kind, name }) => `${kind}/${name}`))).toEqual(new Set(['ServiceAccount/fairlead-agent']));
});

test('the flags of the service on a machine are flags of the agent', () => {
  const read = (name: string) => readFileSync(join(folder, 'out-of-cluster', name), 'utf8');
  const flags = /^FAIRLEAD_AGENT_FLAGS=(.*)$/m.exec(read('agent.env'))?.[1]?.split(' ') ?? [];
  const [, own = ''] = /^ExecStart=\S+ (?:--\S+ )*\S+\.mjs (.*) \$FAIRLEAD_AGENT_FLAGS$/m.exec(read('fairlead-agent.service')) ?? [];
  const options = parseOptions([...own.replace('%H', 'machine').split(' '), ...flags], {});
  if ('print' in options) throw new Error('prints');
  expect(options).toMatchObject({ bare: false, kubeconfig: '/etc/fairlead-agent/kubeconfig', identity: 'machine' });
  const state = /^StateDirectory=(.*)$/m.exec(read('fairlead-agent.service'))?.[1];
  expect(options.stateDir).toBe(`/var/lib/${state}`);
});
