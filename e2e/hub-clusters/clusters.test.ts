import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AGENT_ACCOUNT, SECRET_BINDING } from '../../src/hub/clusters/names.ts';
import { BOOTSTRAP_GROUP } from '../../src/hub/clusters/settings.ts';
import { CLUSTERS_API, type ManagedCluster, registrationName } from '../../src/kube/clusternet.ts';
import { patch } from '../lab/api-client.ts';
import { writeKubeconfig } from '../lab/kubeconfig.ts';
import { waitFor } from '../lab/wait.ts';
import { type ClustersEnv, clustersEnv, REQUESTS, register, requestOf } from './env.ts';

let env: ClustersEnv;
beforeAll(async () => {
  env = await clustersEnv();
});
afterAll(() => env?.stop());

const merge = (body: object) => ({ body, contentType: patch.merge });
const until = async (what: string, condition: () => unknown) =>
  await waitFor(async () => Boolean(await condition()), { what, timeout: 60_000 });
const gone = async (path: string) => (await env.lab.api.request('GET', path)).status === 404;
const managedPath = (status: { dedicatedNamespace?: string; managedClusterName?: string } | undefined) =>
  `${CLUSTERS_API}/namespaces/${status?.dedicatedNamespace}/managedclusters/${status?.managedClusterName}`;

async function registered(name: string, options?: Parameters<typeof register>[2]) {
  const one = await register(env, name, options);
  expect(one.made.status).toBe(201);
  const request = await one.result('Approved');
  const token = one.tokenOf(request);
  await until(`${name} to be known to the request path`, () => env.clusters.sockets.find(one.id));
  return { ...one, request, token, agent: env.as(token) };
}

describe('a cluster that registers with a bootstrap token of the group', () => {
  test('is approved, and its sealed token works for its own objects', async () => {
    const { id, request, agent } = await registered('first');
    expect(request.status?.token).toBeUndefined();
    expect(
      Buffer.from(request.status?.caCertificate ?? '', 'base64')
        .toString()
        .trim(),
    ).toBe(env.lab.ca.trim());
    expect((await agent.request('GET', `${REQUESTS}/${registrationName(id)}`)).status).toBe(200);
    const status = { lastObservedTime: new Date().toISOString(), k8sVersion: 'v1.36.3+k3s1', useSocket: true, allocatable: { cpu: '4' } };
    expect((await agent.request('PATCH', `${managedPath(request.status)}/status`, merge({ status }))).status).toBe(200);
    const shown = await env.kubectl('get', 'clsrr,mcls', '-A');
    expect(shown).toMatch(new RegExp(`${id} +Approved`));
    expect(shown).toMatch(new RegExp(`${id} +Pull +v1.36.3\\+k3s1`));
    expect(env.clusters.sockets.find(id)).toMatchObject({ name: 'first', credentialIDs: [expect.stringMatching(/^JTI=/)] });
    await until('an Event', async () => (await env.kubectl('get', 'events', '-n', 'default')).includes('RegistrationApproved'));
  });

  test("R17: its account reaches its own cluster's objects and nothing else", async () => {
    const [mine, other] = [await registered('mine'), await registered('other')];
    const namespace = mine.request.status?.dedicatedNamespace ?? '';
    const kubeconfig = writeKubeconfig(join(env.lab.dir, 'agent.kubeconfig'), {
      server: env.lab.apiServerURL,
      ca: env.lab.ca,
      user: 'agent',
      credentials: { token: mine.token },
    });
    const { stdout } = await env.lab.kubectl(['auth', 'can-i', '--list', '-n', namespace], { kubeconfig });
    const lines = stdout
      .split('\n')
      .slice(1)
      .filter((line) => line !== '' && !/\[\/|selfsubject/.test(line))
      .map((line) => line.replaceAll(/ +/g, ' '));
    const own = registrationName(mine.id);
    expect(lines.sort()).toEqual(
      [
        `clusterregistrationrequests.clusters.clusternet.io [] [${own}] [get patch update]`,
        'managedclusters.clusters.clusternet.io [] [mine] [get]',
        'managedclusters.clusters.clusternet.io/status [] [mine] [get patch update]',
        `sockets.proxies.clusternet.io/attach [] [${mine.id}] [create]`,
      ].sort(),
    );
    const refused: [string, string, object?][] = [
      ['GET', other.path],
      ['PATCH', other.path, { spec: { renewal: 'x' } }],
      ['GET', REQUESTS],
      ['POST', REQUESTS, requestOf(randomUUID())],
      ['DELETE', mine.path],
      ['PATCH', `${mine.path}/status`, { status: { result: 'Approved' } }],
      ['GET', managedPath(other.request.status)],
      ['PATCH', `${managedPath(other.request.status)}/status`, { status: { healthz: true } }],
      ['DELETE', managedPath(mine.request.status)],
      ['GET', '/api/v1/secrets'],
      ['GET', `/api/v1/namespaces/${namespace}/secrets`],
      ['POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${AGENT_ACCOUNT}/token`, { spec: {} }],
      ['GET', '/api/v1/nodes'],
      ['GET', `/apis/proxies.clusternet.io/v1alpha1/sockets/${other.id}`],
      ['POST', `/apis/proxies.clusternet.io/v1alpha1/sockets/${other.id}/attach`],
      ['GET', `/apis/proxies.clusternet.io/v1alpha1/sockets/${mine.id}/proxy/direct/version`],
    ];
    for (const [method, path, body] of refused) {
      const { status } = await mine.agent.request(method, path, method === 'PATCH' ? merge(body ?? {}) : { body });
      expect(`${method} ${path}: ${status}`).toBe(`${method} ${path}: 403`);
    }
    expect((await mine.agent.request('PATCH', mine.path, merge({ spec: { decision: 'Approved' } }))).status).toBe(403);
    const forged = {
      metadata: { annotations: { 'infraops.michael.io/requested-by-groups': BOOTSTRAP_GROUP } },
      spec: { clusterId: other.id },
    };
    expect((await mine.agent.request('PATCH', mine.path, merge(forged))).status).toBe(422);
  });

  test('renews its token; the older one ends when the newer is used', async () => {
    const { id, path, agent, request, tokenOf, read } = await registered('renewing');
    const [before] = request.status?.credentialIDs ?? [];
    expect((await agent.request('PATCH', path, merge({ spec: { renewal: 'r1' } }))).status).toBe(200);
    await until('the renewal', async () => (await read()).status?.renewal === 'r1');
    const renewed = await read();
    expect(tokenOf(renewed)).not.toBe(tokenOf(request));
    expect(renewed.status?.credentialIDs).toEqual([expect.stringMatching(/^JTI=/), before]);
    await until('both to be known', () => env.clusters.sockets.find(id)?.credentialIDs?.length === 2);
    env.clusters.sockets.opened(id, renewed.status?.credentialIDs?.[0]);
    await until('the older one to end', () => env.clusters.sockets.find(id)?.credentialIDs?.length === 1);
    expect((await read()).status?.credentialIDs).toEqual([renewed.status?.credentialIDs?.[0]]);
  });
});

describe('people decide', () => {
  test('a request that does not say who made it waits for a person', async () => {
    const { path, made, result, tokenOf } = await register(env, 'by-hand', { claim: false });
    expect(made.status).toBe(201);
    expect((await result('Pending')).status?.errorMessage).toContain('kubectl infra approve clusternet-');
    await env.lab.api.json('PATCH', path, merge({ spec: { decision: 'Approved' } }));
    const agent = env.as(tokenOf(await result('Approved')));
    expect((await agent.request('GET', path)).status).toBe(200);
  });

  test('a bootstrap token cannot lie about its groups, decide, or change a request', async () => {
    const stranger = env.as(await env.bootstrapToken());
    const create = async (options: Parameters<typeof requestOf>[1]) =>
      (await stranger.request('POST', REQUESTS, { body: requestOf(randomUUID(), options) })).status;
    expect(await create({ groups: ['system:masters'] })).toBe(422);
    expect(await create({ groups: [BOOTSTRAP_GROUP, 'system:masters'] })).toBe(422);
    expect(await create({ spec: { decision: 'Approved' } })).toBe(403);
    const { path } = await registered('unchangeable');
    expect((await stranger.request('PATCH', path, merge({ spec: { sealingKey: '' } }))).status).toBe(403);
    expect((await stranger.request('GET', REQUESTS)).status).toBe(403);
  });

  test('denying ends the token at once and keeps the cluster out until it is approved', async () => {
    const { id, path, agent, result, tokenOf } = await registered('unwanted');
    const from = env.told.length;
    const began = performance.now();
    await env.lab.api.json('PATCH', path, merge({ spec: { decision: 'Denied' } }));
    await until('the request path to be told', () => env.told.slice(from).includes(id) && !env.clusters.sockets.find(id));
    expect(performance.now() - began).toBeLessThan(5_000);
    await result('Denied');
    // kube-apiserver remembers a token for up to ten seconds; the rights end with the roles.
    await until('the token to end', async () => [401, 403].includes((await agent.request('GET', path)).status));
    await env.lab.api.json('PATCH', path, merge({ spec: { decision: 'Approved' } }));
    const again = env.as(tokenOf(await result('Approved')));
    expect((await again.request('GET', path)).status).toBe(200);
    await until('the old token to be unknown', async () => (await agent.request('GET', path)).status === 401);
  });

  test('deleting the ManagedCluster forgets the cluster; registering again gives the same namespace and a new token', async () => {
    const { id, path, agent, request } = await registered('forgotten');
    const namespace = request.status?.dedicatedNamespace ?? '';
    await env.lab.api.json('DELETE', managedPath(request.status));
    await until('the request path to forget it', () => !env.clusters.sockets.find(id));
    await until('its request to go', () => gone(path));
    await until('its namespace to go', () => gone(`/api/v1/namespaces/${namespace}`));
    for (const kind of ['clusterroles', 'clusterrolebindings'])
      expect(await gone(`/apis/rbac.authorization.k8s.io/v1/${kind}/${registrationName(id)}`)).toBe(true);
    const again = await registered('forgotten', { id });
    expect(again.request.status?.dedicatedNamespace).toBe(namespace);
    expect((await again.agent.request('GET', path)).status).toBe(200);
    await until('the old token to be unknown', async () => (await agent.request('GET', path)).status === 401);
  });

  test('a cluster that asks for the name or the namespace of others is denied', async () => {
    await registered('taken');
    const second = await register(env, 'taken');
    expect((await second.result('Denied')).status?.errorMessage).toContain('another cluster is called taken');
    const stranger = env.as(await env.bootstrapToken());
    const id = randomUUID();
    const spec = { clusterName: 'greedy', clusterNamespace: 'fairlead-system' };
    await stranger.json('POST', REQUESTS, { body: requestOf(id, { groups: [BOOTSTRAP_GROUP], spec }) });
    await until('the denial', async () =>
      (await env.kubectl('get', 'clsrr', registrationName(id), '-o', 'wide')).includes('exists and is not'),
    );
    expect(await gone(`/api/v1/namespaces/fairlead-system/serviceaccounts/${AGENT_ACCOUNT}`)).toBe(true);
  });
});

describe('R10: bootstrap tokens', () => {
  test('R10: wrong, expired and deleted ones are refused by kube-apiserver; a used one cannot take a cluster over', async () => {
    const token = await env.bootstrapToken();
    const [id] = token.split('.');
    const create = async (bearer: string) =>
      (await env.as(bearer).request('POST', REQUESTS, { body: requestOf(randomUUID(), { groups: [BOOTSTRAP_GROUP] }) })).status;
    expect(await create(`${id}.0123456789abcdef`)).toBe(401);
    expect(await create(await env.bootstrapToken(new Date(Date.now() - 1_000)))).toBe(401);
    const victim = await registered('victim');
    const stranger = env.as(token);
    const again = requestOf(victim.id, { groups: [BOOTSTRAP_GROUP], spec: { clusterName: 'victim' } });
    expect((await stranger.request('POST', REQUESTS, { body: again })).status).toBe(409);
    const seen = await stranger.request('GET', victim.path);
    expect(seen.text).not.toContain(victim.token);
    expect(seen.text).not.toContain(Buffer.from(victim.token).toString('base64'));
    await env.lab.api.json('DELETE', `/api/v1/namespaces/kube-system/secrets/bootstrap-token-${id}`);
    await until('the deleted token to be refused', async () => (await stranger.request('GET', victim.path)).status === 401);
  });
});

describe('status', () => {
  test('Ready becomes Unknown after the last tunnel ended, and the agent brings it back', async () => {
    const { id, agent, request } = await registered('silent');
    const path = managedPath(request.status);
    const ready = async () =>
      (await env.lab.api.json<ManagedCluster>('GET', path)).status?.conditions?.find(({ type }) => type === 'Ready');
    const post = async () => {
      const condition = {
        type: 'Ready',
        status: 'True',
        reason: 'ManagedClusterReady',
        message: '',
        lastTransitionTime: new Date().toISOString(),
      };
      const status = { lastObservedTime: new Date().toISOString(), useSocket: true, healthz: true, conditions: [condition] };
      await agent.json('PATCH', `${path}/status`, merge({ status }));
    };
    const tunnel = (connected: boolean) =>
      env.connections.set(id, {
        connected,
        since: new Date(),
        lastSeen: new Date(),
        roundTripMs: 1,
        agentVersion: '0.1.0',
        protocol: 'fairlead',
        tunnels: connected ? 1 : 0,
      });
    tunnel(true);
    await post();
    tunnel(false);
    await until('Ready to be Unknown', async () => (await ready())?.status === 'Unknown');
    expect(await ready()).toMatchObject({ reason: 'ClusterStatusUnknown' });
    expect((await env.lab.api.json<ManagedCluster>('GET', path)).status).toMatchObject({ healthz: false, livez: false, readyz: false });
    tunnel(true);
    await post();
    expect(await ready()).toMatchObject({ status: 'True' });
  });
});

describe("clusternet's agents", () => {
  test('get a readable token, an Event says so, and their Secret only where an administrator allows it', async () => {
    const { id, path, agent, request, token } = await registered('old-agent', { key: false });
    expect(request.status?.sealedToken).toBeUndefined();
    expect(token.split('.')).toHaveLength(3);
    const life = Date.parse(request.status?.tokenExpirationTimestamp ?? '') - Date.now();
    expect(life).toBeGreaterThan(300 * 86_400_000);
    const events = async () => await env.kubectl('get', 'events', '-n', 'default');
    await until('the Events', async () =>
      /PlainCredentials[\s\S]*NoSecretForDeployer|NoSecretForDeployer[\s\S]*PlainCredentials/.test(await events()),
    );
    const namespace = request.status?.dedicatedNamespace ?? '';
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'child-cluster-deployer' } };
    const create = async () => (await agent.request('POST', `/api/v1/namespaces/${namespace}/secrets`, { body: secret })).status;
    expect(await create()).toBe(403);
    const component = fileURLToPath(new URL('../../deploy/crds/clusternet-agents/secret-access.yaml', import.meta.url));
    await env.kubectl('apply', '--server-side', '-f', component);
    await until('the binding', async () => {
      await env.lab.api.json('PATCH', path, merge({ spec: { renewal: String(Date.now()) } }));
      return !(await gone(`/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/rolebindings/${SECRET_BINDING}`));
    });
    await until('the Secret', async () => [201, 409].includes(await create()));
    expect((await agent.request('GET', `/api/v1/namespaces/${namespace}/secrets`)).status).toBe(403);
    expect(env.clusters.sockets.find(id)?.name).toBe('old-agent');
  });

  test('are approved by group where kube-apiserver stamps who asked', async (context) => {
    const served = await env.lab.api.request('GET', '/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies');
    if (served.status !== 200) context.skip('this kube-apiserver has no MutatingAdmissionPolicy v1');
    const stamp = fileURLToPath(new URL('../../deploy/crds/stamp/stamp-policy.yaml', import.meta.url));
    await env.kubectl('apply', '--server-side', '-f', stamp);
    await until('the stamp', async () => {
      const body = requestOf(randomUUID());
      return (await env.lab.api.request('POST', `${REQUESTS}?dryRun=All`, { body })).text.includes('system:masters');
    });
    const { result } = await register(env, 'stamped', { claim: false, key: false });
    await result('Approved');
    // What is claimed falsely is overwritten, not believed.
    const stranger = env.as(await env.bootstrapToken());
    const made = await stranger.request('POST', REQUESTS, { body: requestOf(randomUUID(), { groups: ['system:masters'] }) });
    expect(made.status).toBe(201);
    expect(made.text).not.toContain('system:masters');
  });
});
