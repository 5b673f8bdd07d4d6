import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { waitFor } from '../lab/wait.ts';
import { ended, type NodeOperation, type Status } from '../support/operations.ts';
import { API, GROUP, type HubEnv } from './env.ts';

const run = promisify(execFile);
const NODES = `nodes.${GROUP}`;

/** Who may do what: RBAC in kube-apiserver and again in the hub. */
export function accessTests(env: HubEnv): void {
  let restarter = '';
  const restart = (node: string, query = '') => ['create', '--raw', `${API}/nodes/${node}/restart${query}`, '-f', '/dev/null'];
  /** kube-apiserver sees new bindings within a moment. */
  const canI = async (kubeconfig: string, ...question: string[]) =>
    (await env.lab.kubectl(['auth', 'can-i', ...question], { kubeconfig })).stdout.trim() === 'yes';

  beforeAll(async () => {
    await env.kubectl(['apply', '-f', fileURLToPath(new URL('../rbac.yaml', import.meta.url))]);
    restarter = await env.lab.serviceAccountKubeconfig('default', 'node-restarter');
    await waitFor(() => canI(restarter, 'create', `${NODES}/worker-1`, '--subresource=restart'), { what: 'e2e/rbac.yaml to hold' });
  });

  test('a service account limited by resourceNames restarts its node; for another one kube-apiserver says 403', async () => {
    expect(await canI(restarter, 'create', `${NODES}/worker-2`, '--subresource=restart')).toBe(false);
    const operation = JSON.parse(await env.kubectl(restart('worker-1'), { kubeconfig: restarter })) as NodeOperation;
    expect(operation.spec).toMatchObject({ requestedBy: { username: 'system:serviceaccount:default:node-restarter' } });
    await env.kubectl(['wait', '--for=jsonpath={.status.phase}=Succeeded', `nodeoperation/${operation.metadata.name}`, '--timeout=30s'], {
      kubeconfig: restarter,
    });
    const before = env.lab.ec2.gate.calls().length;
    const refused = await env.lab.kubectl(restart('worker-2'), { kubeconfig: restarter });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(
      `Error from server (Forbidden): ${NODES} "worker-2" is forbidden: User "system:serviceaccount:default:node-restarter" cannot create resource "nodes/restart" in API group "${GROUP}" at the cluster scope`,
    );
    for (const args of [
      ['get', NODES],
      ['get', NODES, 'worker-2'],
      ['create', '--raw', `${API}/nodes/worker-1/stop`, '-f', '/dev/null'],
    ]) {
      expect(await env.lab.kubectl(args, { kubeconfig: restarter }), args.join(' ')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('Forbidden'),
      });
    }
    expect(env.lab.ec2.gate.calls()).toHaveLength(before);
  });

  test('the hub itself refuses what kube-apiserver would: the same account straight to the hub', async () => {
    const direct = await env.hub.client(0, { token: await env.lab.serviceAccountToken('default', 'node-restarter') });
    expect((await direct.request('GET', `${API}/nodes/worker-1`)).status).toBe(200);
    for (const [method, path] of [
      ['POST', `${API}/nodes/worker-2/restart`],
      ['GET', `${API}/nodes`],
      ['GET', `${API}/nodes/worker-2`],
    ] as const) {
      const refused = await direct.request(method, path);
      expect(refused.status, path).toBe(403);
      expect(JSON.parse(refused.text)).toMatchObject({
        kind: 'Status',
        reason: 'Forbidden',
        message: expect.stringContaining('system:serviceaccount:default:node-restarter'),
      });
    }
    // One object of a collection, by name: authorised by name, as kube-apiserver does it.
    const named = await direct.request('GET', `${API}/nodes?fieldSelector=metadata.name%3Dworker-1`);
    expect(named.status).toBe(403);
  });

  test('force without its own verb is refused by the hub, with it the guards are skipped and told as warnings', async () => {
    await env.kubectl(['annotate', 'node', 'worker-1', `${GROUP}/veto=not now`]);
    try {
      const before = env.lab.ec2.gate.count('RebootInstances', env.lab.node(1).instanceID);
      const without = await env.lab.kubectl(restart('worker-1', '?force=true'), { kubeconfig: restarter });
      expect(without.code).toBe(1);
      expect(without.stderr).toContain(`cannot force resource "nodes/restart" in API group "${GROUP}"`);
      // The account may restart this node: it is the hub that refuses, for the option.
      const eviction = await env.lab.kubectl(restart('worker-1', '?drain=true&disableEviction=true'), { kubeconfig: restarter });
      expect(eviction).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(
          'disableEviction: User "system:serviceaccount:default:node-restarter" cannot force resource "nodes/restart"',
        ),
      });
      expect(env.lab.ec2.gate.count('RebootInstances', env.lab.node(1).instanceID)).toBe(before);
      await env.kubectl([
        'create',
        'clusterrole',
        'force-worker-1',
        '--verb=force',
        `--resource=nodes.${GROUP}/restart`,
        '--resource-name=worker-1',
      ]);
      await env.kubectl([
        'create',
        'clusterrolebinding',
        'force-worker-1',
        '--clusterrole=force-worker-1',
        '--serviceaccount=default:node-restarter',
      ]);
      const forced = await waitFor(
        async () => {
          const answer = await env.lab.kubectl(restart('worker-1', '?force=true'), { kubeconfig: restarter });
          return answer.code === 0 && answer;
        },
        // The hub keeps a refusal for ten seconds.
        { what: 'the verb force to hold', timeout: 30_000, interval: 500 },
      );
      expect(forced.stderr).toContain('Warning: guard Veto skipped by force: ');
      const operation = JSON.parse(forced.stdout) as NodeOperation;
      expect((await ended(env.lab, operation.metadata.name)).status.phase).toBe('Succeeded');
    } finally {
      await env.kubectl(['annotate', 'node', 'worker-1', `${GROUP}/veto-`]);
    }
  });

  test('the roles of deploy/hub: a viewer sees, an operator acts, force comes apart', async () => {
    const kubeconfig = Object.fromEntries(
      ['viewer', 'operator', 'force'].map((role) => [role, env.lab.kubeconfigFor({ user: `role-${role}` })]),
    );
    for (const role of ['viewer', 'operator', 'force']) {
      await env.kubectl(['create', 'clusterrolebinding', `role-${role}`, `--clusterrole=fairlead-node-${role}`, `--user=role-${role}`]);
    }
    const questions: Record<string, string[]> = {
      list: ['list', NODES],
      watch: ['watch', `nodeoperations.${GROUP}`],
      log: ['get', NODES, '--subresource=log'],
      instance: ['get', NODES, '--subresource=instance'],
      restart: ['create', NODES, '--subresource=restart'],
      stop: ['create', NODES, '--subresource=stop'],
      start: ['create', NODES, '--subresource=start'],
      cancel: ['create', `nodeoperations.${GROUP}`, '--subresource=cancel'],
      force: ['force', NODES, '--subresource=restart'],
    };
    await waitFor(() => canI(kubeconfig['force'] ?? '', ...(questions['force'] ?? [])), { what: 'the bindings to hold' });
    const rights: Record<string, string[]> = {};
    for (const role of ['viewer', 'operator', 'force']) {
      const answers = await Promise.all(
        Object.entries(questions).map(async ([right, question]) => ((await canI(kubeconfig[role] ?? '', ...question)) ? [right] : [])),
      );
      rights[role] = answers.flat();
    }
    const viewing = ['list', 'watch', 'log', 'instance'];
    expect(rights).toEqual({ viewer: viewing, operator: [...viewing, 'restart', 'stop', 'start', 'cancel'], force: ['force'] });
    expect(await env.kubectl(['get', NODES, '-o', 'name'], { kubeconfig: kubeconfig['viewer'] ?? '' })).toContain('worker-1');
    expect(await env.lab.kubectl(restart('worker-2'), { kubeconfig: kubeconfig['viewer'] ?? '' })).toMatchObject({ code: 1 });
    const operation = JSON.parse(await env.kubectl(restart('worker-2'), { kubeconfig: kubeconfig['operator'] ?? '' })) as NodeOperation;
    await ended(env.lab, operation.metadata.name);
    // Nothing of it reaches the roles for tenants of namespaces.
    for (const role of ['view', 'edit', 'admin']) {
      const rules = await env.kubectl(['get', 'clusterrole', role, '-o', 'json']);
      expect(rules, role).not.toContain(GROUP);
    }
  });

  test('kubectl auth can-i knows the subresource, and that the resource has no namespace', async () => {
    const asked = await env.lab.kubectl(['auth', 'can-i', 'create', `${NODES}/worker-2`, '--subresource=restart']);
    expect(asked).toMatchObject({ code: 0, stdout: 'yes\n', stderr: expect.stringContaining("resource 'nodes' is not namespace scoped") });
    const listed = (await env.kubectl(['auth', 'can-i', '--list'], { kubeconfig: restarter })).split('\n');
    expect(listed.find((line) => line.startsWith(`nodes.${GROUP}/restart `))).toMatch(/\[\] +\[worker-1\] +\[.*create/);
  });

  test('impersonation by an admin is what the operation records', async () => {
    const created = await env
      .kubectl(['--as=alice', '--as-group=sre', ...restart('worker-3', '?dryRun=All')])
      .catch((error: Error) => error.message);
    expect(created).toContain('Forbidden');
    await env.kubectl(['create', 'clusterrolebinding', 'sre', '--clusterrole=fairlead-node-operator', '--group=sre']);
    const dry = await waitFor(async () => await env.kubectl(['--as=alice', '--as-group=sre', ...restart('worker-3', '?dryRun=All')]), {
      what: 'the binding of group sre to hold',
      timeout: 30_000,
      interval: 500,
    });
    expect((JSON.parse(dry) as { spec: object }).spec).toMatchObject({
      requestedBy: { username: 'alice', groups: ['sre', 'system:authenticated'] },
    });
  });

  test('curl with a client certificate through kube-apiserver; the same certificate means nothing to the hub itself', async () => {
    const write = (name: string, text: string) => {
      const path = join(env.lab.dir, name);
      writeFileSync(path, text, { mode: 0o600 });
      return path;
    };
    const { certificate, key } = env.lab.clientCertificate({ user: 'curl-user', groups: ['sre'] });
    const identity = ['--silent', '--show-error', '--cert', write('curl.crt', certificate), '--key', write('curl.key', key)];
    const curl = async (...args: string[]) => {
      const { stdout } = await run('curl', [...identity, '--write-out', '\n%{http_code}', ...args]);
      const [body = '', code = ''] = stdout.split(/\n(?=\d+$)/);
      return { code, body: JSON.parse(body) as NodeOperation & Status };
    };
    const ca = env.lab.pki.files['ca.crt'];
    const url = `${env.lab.apiServerURL}${API}/nodes/worker-3/restart`;
    const created = await waitFor(
      async () => {
        const answer = await curl('--cacert', ca, '--request', 'POST', url);
        return answer.code === '201' && answer;
      },
      { what: 'curl to be let through', timeout: 30_000, interval: 500 },
    );
    expect(created.body.spec).toMatchObject({ nodeName: 'worker-3', requestedBy: { username: 'curl-user' } });
    await ended(env.lab, created.body.metadata.name);
    const withBody = await curl(
      '--cacert',
      ca,
      '--header',
      'Content-Type: application/json',
      '--data',
      '{"reason":"curl","dryRun":["All"]}',
      url,
    );
    expect(withBody).toMatchObject({ code: '200', body: { spec: { reason: 'curl' } } });

    const hubCA = write('hub-ca.crt', await env.hub.caBundle());
    const { ip, port } = env.hub.replica(0);
    const name = `${env.hub.serviceName}.${env.hub.namespace}.svc`;
    const direct = await curl('--cacert', hubCA, '--resolve', `${name}:${port}:${ip}`, `https://${name}:${port}${API}/nodes`);
    expect(direct).toMatchObject({ code: '401', body: { kind: 'Status', reason: 'Unauthorized' } });
  });

  test('bearer tokens straight to the hub: a good one counts, others and a deleted account do not', async () => {
    const good = await env.lab.serviceAccountToken('default', 'node-restarter');
    const answer = async (token: string) => (await (await env.hub.client(0, { token })).request('GET', `${API}/nodes/worker-1`)).status;
    expect(await answer(good)).toBe(200);
    const [head = '', body = '', signature = ''] = good.split('.');
    const forged = `${head}.${Buffer.from(Buffer.from(body, 'base64url').toString().replace('node-restarter', 'node-destroyer')).toString('base64url')}.${signature}`;
    for (const bad of ['nonsense', `${good}x`, `${head}.${body}.`, forged]) expect(await answer(bad)).toBe(401);
    await env.kubectl(['create', 'serviceaccount', 'short-lived']);
    await env.kubectl([
      'create',
      'clusterrolebinding',
      'short-lived',
      '--clusterrole=fairlead-node-viewer',
      '--serviceaccount=default:short-lived',
    ]);
    const token = await env.lab.serviceAccountToken('default', 'short-lived');
    await waitFor(async () => (await answer(token)) === 200, { what: 'the new account to be let in', timeout: 30_000, interval: 500 });
    await env.kubectl(['delete', 'serviceaccount', 'short-lived']);
    await waitFor(async () => (await answer(token)) === 401, {
      what: 'the token of the deleted account to be refused',
      timeout: 30_000,
      interval: 500,
    });
  });
}
