import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type ApiClient, createApiClient } from './lab/api-client.ts';
import { defaultControllers } from './lab/control-plane.ts';
import { type Hub, startHub } from './lab/hub.ts';
import { runCommand } from './lab/kubectl.ts';
import { type Lab, startLab } from './lab/lab.ts';
import { waitFor } from './lab/wait.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const deploy = join(root, 'deploy');
const hubUser = 'system:serviceaccount:fairlead-system:fairlead-hub';
const agentUser = 'system:serviceaccount:clusternet-system:fairlead-agent';
/** All of deploy/ that is applied by itself. */
const folders = ['hub', 'overlays/eks-irsa', 'overlays/tke', 'overlays/static-secrets', 'overlays/out-of-cluster', 'agent'];

type Manifest = { apiVersion: string; kind: string; metadata: { name: string; namespace?: string }; spec?: object };
type AuditLine = { user: { username: string }; verb: string; requestURI: string; responseStatus?: { code: number } };

describe('deploy/ on a real API server', () => {
  let lab: Lab;
  let hub: Hub;
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'fairlead-deploy-')));

  const kubectl = async (args: readonly string[], input?: string) => {
    const { code, stdout, stderr } = await lab.kubectl(args, input === undefined ? {} : { input });
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}${stdout}`);
    return stdout;
  };
  const build = async (folder: string) =>
    parseAllDocuments(await kubectl(['kustomize', join(deploy, folder)])).map((document) => document.toJS() as Manifest);

  const apply = (objects: readonly Manifest[]) =>
    kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));

  /** The API server as the agent's ServiceAccount meets it. */
  async function agentClient(): Promise<ApiClient> {
    const token = await lab.serviceAccountToken('clusternet-system', 'fairlead-agent');
    const client = createApiClient({ server: lab.apiServerURL, ca: lab.ca, credentials: { token } });
    lab.defer(client.close);
    return client;
  }

  /** Resolves when an operation has succeeded; rejects with its status when it ended otherwise, or has not ended. */
  async function succeeds(name: string, kubeconfig = lab.adminKubeconfig): Promise<void> {
    const args = ['get', 'nodeoperations.infraops.michael.io', name, '-o', 'jsonpath={.status}'];
    const answer = async () => {
      const { code, stdout, stderr } = await lab.kubectl(args, { kubeconfig });
      const status = code === 0 ? (JSON.parse(stdout) as { phase: string }) : { phase: stderr };
      if (!['Succeeded', 'Failed', 'Cancelled'].includes(status.phase)) throw new Error(`not ended: ${stdout}${stderr}`);
      return { status };
    };
    const { status } = await waitFor(answer, { what: `operation ${name} to end`, timeout: 90_000, interval: 200 });
    if (status.phase !== 'Succeeded') throw new Error(`operation ${name}: ${JSON.stringify(status)}`);
  }

  beforeAll(async () => {
    writeFileSync(
      join(dir, 'policy.yaml'),
      JSON.stringify({ apiVersion: 'audit.k8s.io/v1', kind: 'Policy', rules: [{ level: 'Metadata' }] }),
    );
    lab = await startLab({
      controllers: [...defaultControllers, 'resourcequota-controller'],
      kubeApiServerFlags: [`--audit-policy-file=${dir}/policy.yaml`, `--audit-log-path=${dir}/audit.log`],
    });
    // The lab runs it with the rights of deploy/hub.
    hub = await startHub(lab);
    const inside = ['Namespace', 'ServiceAccount', 'Role', 'ClusterRole', 'RoleBinding', 'ClusterRoleBinding'];
    const agent = await build('agent');
    await apply(agent.filter(({ kind }) => kind === 'Namespace'));
    await apply(agent.filter(({ kind }) => inside.includes(kind)));
  });
  afterAll(async () => {
    await lab?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  describe('R67: pod security', () => {
    type PodOf = {
      spec: { containers: { securityContext: object }[]; volumes?: object[] } & object;
      metadata: { name: string; namespace: string };
    };
    /** The pod that the Deployment would make, in the namespace of the folder, which is there. */
    async function podOf(folder: string): Promise<PodOf> {
      const deployment = (await build(folder)).find(({ kind }) => kind === 'Deployment');
      if (!deployment) throw new Error(`${folder} has no Deployment`);
      const { name, namespace = '' } = deployment.metadata;
      const { template } = deployment.spec as { template: PodOf };
      return { metadata: { ...template.metadata, name: `${name}-probe`, namespace }, spec: template.spec };
    }
    const create = (pod: object) =>
      lab.kubectl(['create', '--dry-run=server', '-f', '-'], { input: JSON.stringify({ apiVersion: 'v1', kind: 'Pod', ...pod }) });

    const folders = ['hub', 'agent'];
    beforeAll(async () => {
      for (const folder of folders) {
        const quota = (await build(folder)).filter(({ kind }) => kind === 'ResourceQuota');
        await apply(quota);
        const namespace = quota[0]?.metadata.namespace ?? '';
        await waitFor(
          async () => (await kubectl(['get', 'resourcequota', '-n', namespace, '-o', 'jsonpath={.items[*].status.hard.pods}'])) === '10',
          { what: `the quota of ${namespace} to be counted` },
        );
      }
    });

    test.each(folders)(
      'R67: the API server admits the pod of %s into a namespace that enforces the restricted profile, without a warning',
      async (folder) => {
        const pod = await podOf(folder);
        const { code, stdout, stderr } = await create(pod);
        expect([code, stdout.trim(), stderr]).toEqual([0, `pod/${pod.metadata.name} created (server dry run)`, '']);
      },
    );

    test.each(folders)('R67: the pod of %s with one privilege more is refused', async (folder) => {
      const pod = await podOf(folder);
      const [container] = pod.spec.containers;
      const changes: object[] = [
        { ...pod, spec: { ...pod.spec, hostNetwork: true } },
        { ...pod, spec: { ...pod.spec, volumes: [...(pod.spec.volumes ?? []), { name: 'host', hostPath: { path: '/' } }] } },
        {
          ...pod,
          spec: {
            ...pod.spec,
            containers: [{ ...container, securityContext: { ...container?.securityContext, allowPrivilegeEscalation: true } }],
          },
        },
      ];
      for (const changed of changes) {
        const { code, stderr } = await create(changed);
        expect(code).toBe(1);
        expect(stderr).toContain('violates PodSecurity "restricted:latest"');
      }
    });
  });

  describe('applying', () => {
    test.each(folders)('the API server accepts every object of %s', async (folder) => {
      const out = await kubectl(['apply', '--dry-run=server', '-k', join(deploy, folder), '-o', 'name']);
      expect(out.trim().split('\n')).toHaveLength((await build(folder)).length);
    });

    test.each(['components/direct', 'components/instance-metadata', 'components/dashboard', 'crds/clusternet-agents', 'crds/stamp'])(
      'the API server accepts deploy/hub with the component %s',
      async (component) => {
        const folder = join(dir, component.replace('/', '-'));
        mkdirSync(folder);
        const kustomization = {
          apiVersion: 'kustomize.config.k8s.io/v1beta1',
          kind: 'Kustomization',
          resources: [relative(folder, join(deploy, 'hub'))],
          components: [relative(folder, join(deploy, component))],
        };
        writeFileSync(join(folder, 'kustomization.yaml'), JSON.stringify(kustomization));
        const out = await kubectl(['apply', '--dry-run=server', '-k', folder, '-o', 'name']);
        expect(out.trim().split('\n').length).toBeGreaterThan((await build('hub')).length);
      },
    );

    test('a deletion without the CRDs takes everything else', async () => {
      const names = async (args: readonly string[]) =>
        (
          await kubectl([
            'delete',
            '-k',
            join(deploy, 'hub'),
            '--dry-run=server',
            '--ignore-not-found',
            '--wait=false',
            '-o',
            'name',
            ...args,
          ])
        )
          .trim()
          .split('\n');
      const all = await names([]);
      const kept = await names(['-l', 'app.kubernetes.io/component!=crd']);
      expect(all.filter((name) => !kept.includes(name)).sort()).toEqual([
        'customresourcedefinition.apiextensions.k8s.io/clusterregistrationrequests.clusters.clusternet.io',
        'customresourcedefinition.apiextensions.k8s.io/managedclusters.clusters.clusternet.io',
      ]);
      expect(kept).toContain('apiservice.apiregistration.k8s.io/v1alpha1.proxies.clusternet.io');
    });

    test("kube-apiserver puts the tunnels of clusternet's agents, and no other requests of theirs, under the FlowSchema", async () => {
      const flow = await lab.api.json<{ metadata: { uid: string } }>(
        'GET',
        '/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/fairlead-clusternet-sockets',
      );
      const agent = await agentClient();
      const isUnder = async (method: string, path: string) =>
        (await agent.request(method, path)).headers['x-kubernetes-pf-flowschema-uid'] === flow.metadata.uid;
      const sockets = '/apis/proxies.clusternet.io/v1alpha1/sockets/6f1a2f0c-3f0e-4c0c-9a2b-6d1d2f3a4b5c';
      await waitFor(() => isUnder('GET', sockets), { what: 'kube-apiserver to know the FlowSchema' });
      expect(await isUnder('GET', `${sockets}/proxy/direct/version`)).toBe(false);
      expect(await isUnder('POST', sockets)).toBe(false);
      expect(await isUnder('GET', '/apis/infraops.michael.io/v1/nodes')).toBe(false);
      expect(await isUnder('GET', '/api/v1/nodes')).toBe(false);
    });

    test('a second apply leaves the caBundle alone that the hub has written', async () => {
      const before = await hub.caBundle();
      expect(before).toContain('BEGIN CERTIFICATE');
      const apis = (await build('hub')).filter(({ kind }) => kind === 'APIService');
      expect(apis).toHaveLength(2);
      for (const api of apis) {
        const file = join(lab.dir, 'api-service.json');
        writeFileSync(file, JSON.stringify(api));
        // Server-side dry runs show what an apply would store.
        for (const how of [[], ['--server-side', '--force-conflicts']]) {
          const out = await kubectl(['apply', ...how, '--dry-run=server', '-f', file, '-o', 'jsonpath={.spec.caBundle}']);
          expect(Buffer.from(out, 'base64').toString('utf8')).toBe(before);
        }
      }
    });
  });

  describe('R17: rights of the hub and of the agent', () => {
    const review = async (attributes: object, user = hubUser) => {
      const body = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SubjectAccessReview',
        spec: { user, groups: ['system:serviceaccounts', 'system:authenticated'], resourceAttributes: attributes },
      };
      const answer = await lab.api.json<{ status: { allowed: boolean } }>('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
        body,
      });
      return answer.status.allowed;
    };

    test('R17: it may what it needs', async () => {
      const own = { namespace: 'fairlead-system' };
      const needed = [
        { verb: 'patch', resource: 'nodes' },
        { verb: 'create', resource: 'pods', subresource: 'eviction', namespace: 'shop' },
        { verb: 'get', resource: 'secrets', name: 'fairlead-hub-tls', ...own },
        { verb: 'create', resource: 'events', group: 'events.k8s.io', namespace: 'default' },
        { verb: 'patch', resource: 'apiservices', group: 'apiregistration.k8s.io', name: 'v1.infraops.michael.io' },
        { verb: 'patch', resource: 'apiservices', group: 'apiregistration.k8s.io', name: 'v1alpha1.proxies.clusternet.io' },
        { verb: 'get', resource: 'secrets', name: 'fairlead-hub-peers', ...own },
        { verb: 'watch', resource: 'endpointslices', group: 'discovery.k8s.io', ...own },
        { verb: 'create', resource: 'serviceaccounts', subresource: 'token', name: 'fairlead-child', namespace: 'clusternet-abcde' },
        { verb: 'watch', resource: 'managedclusters', group: 'clusters.clusternet.io' },
        { verb: 'create', resource: 'subjectaccessreviews', group: 'authorization.k8s.io' },
        { verb: 'watch', resource: 'configmaps', name: 'extension-apiserver-authentication', namespace: 'kube-system' },
      ];
      for (const attributes of needed) expect([attributes, await review(attributes)]).toEqual([attributes, true]);
    });

    test('R17: it may not what would be more', async () => {
      const refused = [
        { verb: '*', resource: '*', group: '*' },
        { verb: 'get', resource: 'secrets', namespace: 'kube-system' },
        { verb: 'list', resource: 'secrets' },
        { verb: 'list', resource: 'secrets', namespace: 'fairlead-system' },
        { verb: 'get', resource: 'secrets', name: 'another', namespace: 'fairlead-system' },
        { verb: 'impersonate', resource: 'users', name: 'admin' },
        { verb: 'impersonate', resource: 'groups', name: 'system:masters' },
        { verb: 'create', resource: 'serviceaccounts', subresource: 'token', namespace: 'fairlead-system' },
        { verb: 'create', resource: 'pods', namespace: 'fairlead-system' },
        { verb: 'create', resource: 'pods', subresource: 'exec', namespace: 'shop' },
        { verb: 'delete', resource: 'nodes' },
        { verb: 'get', resource: 'configmaps', namespace: 'default' },
        { verb: 'patch', resource: 'apiservices', group: 'apiregistration.k8s.io', name: 'v1.apps' },
        { verb: 'create', resource: 'serviceaccounts', subresource: 'token', name: 'fairlead-hub', namespace: 'fairlead-system' },
        { verb: 'create', resource: 'serviceaccounts', subresource: 'token', name: 'default', namespace: 'kube-system' },
        { verb: 'update', resource: 'secrets', name: 'fairlead-hub-peers', namespace: 'fairlead-system' },
        { verb: 'watch', resource: 'endpointslices', group: 'discovery.k8s.io' },
        { verb: 'escalate', resource: 'clusterroles', group: 'rbac.authorization.k8s.io' },
        { verb: 'bind', resource: 'clusterroles', group: 'rbac.authorization.k8s.io', name: 'cluster-admin' },
        { verb: 'update', resource: 'rolebindings', group: 'rbac.authorization.k8s.io', name: 'another', namespace: 'shop' },
        {
          verb: 'update',
          resource: 'validatingadmissionpolicies',
          group: 'admissionregistration.k8s.io',
          name: 'fairlead-cluster-registration',
        },
        { verb: 'approve', resource: 'clusterregistrationrequests', group: 'clusters.clusternet.io' },
        { verb: 'create', resource: 'sockets', subresource: 'proxy', group: 'proxies.clusternet.io', name: 'any' },
        { verb: 'create', resource: 'nodes', subresource: 'restart', group: 'infraops.michael.io', name: 'worker-1' },
      ];
      for (const attributes of refused) expect([attributes, await review(attributes)]).toEqual([attributes, false]);
    });

    test.each([
      [['clusterrolebinding', 'own', '--clusterrole=cluster-admin', '--serviceaccount=fairlead-system:fairlead-hub']],
      [['clusterrole', 'own', '--verb=get', '--resource=secrets']],
      [['rolebinding', 'own', '-n', 'kube-system', '--clusterrole=cluster-admin', '--serviceaccount=fairlead-system:fairlead-hub']],
    ])('R17: it cannot give itself what it has not: kubectl create %j', async (args) => {
      const { code, stderr } = await lab.kubectl([
        'create',
        ...args,
        '--dry-run=server',
        '--as',
        hubUser,
        '--as-group=system:serviceaccounts',
      ]);
      expect([code, stderr]).toEqual([1, expect.stringContaining('is attempting to grant RBAC permissions not currently held')]);
    });

    test('R17: the agent may act as people and ServiceAccounts of the parent with all that these bring, and do little by itself', async () => {
      const agent = await agentClient();
      const whoAmI = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
      const { status } = await agent.json<{ status: { userInfo: object } }>('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {
        body: whoAmI,
        headers: {
          'impersonate-user': 'ann',
          'impersonate-uid': '4711',
          'impersonate-group': 'sre',
          'impersonate-extra-authentication.kubernetes.io%2fcredential-id': 'JTI=1',
          'impersonate-extra-example.com%2fteam': 'blue',
        },
      });
      expect(status.userInfo).toMatchObject({
        username: 'ann',
        uid: '4711',
        groups: expect.arrayContaining(['sre']),
        extra: { 'authentication.kubernetes.io/credential-id': ['JTI=1'], 'example.com/team': ['blue'] },
      });
      const refused = [
        { verb: 'get', resource: 'secrets', namespace: 'kube-system' },
        { verb: 'list', resource: 'secrets', namespace: 'clusternet-system' },
        { verb: 'get', resource: 'secrets', name: 'another', namespace: 'clusternet-system' },
        { verb: 'patch', resource: 'nodes' },
        { verb: 'list', resource: 'pods' },
        { verb: 'create', resource: 'tokenreviews', group: 'authentication.k8s.io' },
        { verb: 'create', resource: 'clusterrolebindings', group: 'rbac.authorization.k8s.io' },
      ];
      for (const attributes of refused) expect([attributes, await review(attributes, agentUser)]).toEqual([attributes, false]);
    });
  });

  describe('e2e/rbac.yaml and hack/kubeconfig.sh', () => {
    let kubeconfig: string;
    const asRestarter = (args: readonly string[]) => lab.kubectl(args, { kubeconfig });
    const restart = (node: string) =>
      asRestarter(['create', '--raw', `/apis/infraops.michael.io/v1/nodes/${node}/restart`, '-f', '/dev/null']);
    const script = (args: readonly string[], env: Record<string, string> = {}) =>
      runCommand(join(root, 'hack/kubeconfig.sh'), args, { env: { ...lab.commandEnv(), ...env } });

    beforeAll(async () => {
      await kubectl(['apply', '-f', join(root, 'e2e/rbac.yaml')]);
      const { code, stdout, stderr } = await script(['node-restarter', '--duration', '20m']);
      if (code !== 0) throw new Error(stderr);
      kubeconfig = join(lab.dir, 'node-restarter.kubeconfig');
      writeFileSync(kubeconfig, stdout, { mode: 0o600 });
    });

    test('the kubeconfig is the ServiceAccount, verifies the server, and its token ends', async () => {
      const { stdout } = await asRestarter(['auth', 'whoami', '-o', 'jsonpath={.status.userInfo.username}']);
      expect(stdout).toBe('system:serviceaccount:default:node-restarter');
      const config = JSON.parse((await asRestarter(['config', 'view', '--raw', '-o', 'json'])).stdout) as {
        clusters: { cluster: { 'certificate-authority-data': string } }[];
        users: { user: { token: string } }[];
      };
      expect(Buffer.from(config.clusters[0]?.cluster['certificate-authority-data'] ?? '', 'base64').toString('utf8')).toBe(lab.ca);
      const claims = JSON.parse(Buffer.from(config.users[0]?.user.token.split('.')[1] ?? '', 'base64url').toString('utf8')) as {
        iat: number;
        exp: number;
      };
      expect(claims.exp - claims.iat).toBe(1200);
    });

    test('it restarts its node and follows the operation to its end, with the rights of deploy/hub alone', async () => {
      const { code, stdout, stderr } = await restart('worker-1');
      expect([code, stderr]).toEqual([0, '']);
      const { metadata } = JSON.parse(stdout) as { metadata: { name: string } };
      await succeeds(metadata.name, kubeconfig);
      expect((await asRestarter(['get', '--raw', '/apis/infraops.michael.io/v1/nodes/worker-1/log'])).stdout).toContain(metadata.name);
    });

    test('every other node and every other action is refused by kube-apiserver', async () => {
      const { code, stderr } = await restart('worker-2');
      expect(code).toBe(1);
      expect(stderr).toContain('User "system:serviceaccount:default:node-restarter" cannot create resource "nodes/restart"');
      for (const path of ['nodes/worker-1/stop', 'nodes/worker-1/start', 'nodeoperations/any/cancel']) {
        const answer = await asRestarter(['create', '--raw', `/apis/infraops.michael.io/v1/${path}`, '-f', '/dev/null']);
        expect([path, answer.code, answer.stderr.includes('Forbidden')]).toEqual([path, 1, true]);
      }
      const forced = await asRestarter([
        'create',
        '--raw',
        '/apis/infraops.michael.io/v1/nodes/worker-1/restart?force=true',
        '-f',
        '/dev/null',
      ]);
      expect([forced.code, forced.stderr.includes('cannot force resource')]).toEqual([1, true]);
    });

    test.each([
      [[], 2],
      [['a', 'b'], 2],
      [['--nonsense=1', 'a'], 2],
      [['a"\ntoken: x'], 2],
      [['node-restarter', '--server', 'http://127.0.0.1'], 2],
      [['no-such-account'], 1],
    ])('kubeconfig.sh %j ends with %i and writes no kubeconfig', async (args, expected) => {
      const { code, stdout, stderr } = await script(args);
      expect([code, stdout]).toEqual([expected, '']);
      expect(stderr).not.toBe('');
    });
  });

  test('a drain needs no right that deploy/hub does not give', async () => {
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'drained', namespace: 'default' },
      spec: { nodeName: 'worker-3', terminationGracePeriodSeconds: 0, containers: [{ name: 'c', image: 'none' }] },
    };
    await kubectl(['apply', '-f', '-'], JSON.stringify(pod));
    const path = '/apis/infraops.michael.io/v1/nodes/worker-3/restart?drain=true&evictUnmanaged=true';
    const { metadata } = JSON.parse(await kubectl(['create', '--raw', path, '-f', '/dev/null'])) as { metadata: { name: string } };
    await succeeds(metadata.name);
    expect((await lab.kubectl(['get', 'pod', 'drained'])).code).toBe(1);
    // Events are written in the background.
    await waitFor(
      async () =>
        (await kubectl(['get', 'events', '-n', 'default', '-o', 'jsonpath={.items[*].involvedObject.name}'])).includes('worker-3'),
      {
        what: 'an Event on the node',
      },
    );
  });

  test('R17: kube-apiserver has refused the hub nothing, except the Leases of medik8s that are a component', () => {
    const refused = new Set<string>();
    let asked = 0;
    for (const line of readFileSync(join(dir, 'audit.log'), 'utf8').split('\n')) {
      // The last line may be half written.
      if (!line.endsWith('}')) continue;
      const { user, verb, requestURI, responseStatus } = JSON.parse(line) as AuditLine;
      if (user.username !== hubUser) continue;
      asked++;
      if (responseStatus?.code === 403) refused.add(`${verb} ${requestURI.split('?')[0]}`);
    }
    expect(asked).toBeGreaterThan(50);
    expect([...refused].filter((line) => !line.includes('/namespaces/medik8s-leases/leases'))).toEqual([]);
  });
});
