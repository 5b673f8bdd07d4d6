import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { runCommand } from '../lab/kubectl.ts';
import { waitFor } from '../lab/wait.ts';
import { grantSockets, kubectlWith, type SocketsEnv } from './env.ts';

type Status = { kind: string; reason: string; code: number; message: string };
const plugin = fileURLToPath(new URL('../../kubectl-plugins/kubectl-infra.ts', import.meta.url));

/** Who may reach the child, and what those get who may not or who ask for a cluster that is not there. */
export function accessTests(env: SocketsEnv): void {
  const kubectlOf = async (user: string, groups: readonly string[] = []) =>
    kubectlWith(env.parent, await env.agent.kubeconfigFor({ user, groups }));

  describe('access', () => {
    test('without a role in the parent nothing is reached', async () => {
      const stranger = await kubectlOf('stranger', ['devs']);
      const { code, stderr } = await stranger.run(['get', 'pods']);
      expect(code).toBe(1);
      expect(stderr).toContain('User "stranger" cannot get resource "sockets/proxy" in API group "proxies.clusternet.io"');
    });

    test("without a role in the child the child's own RBAC refuses", async () => {
      await grantSockets(env.parent, { user: 'visitor', verbs: ['*'] });
      const visitor = await kubectlOf('visitor');
      const { code, stderr } = await visitor.run(['get', 'pods']);
      expect(code).toBe(1);
      expect(stderr).toContain('pods is forbidden: User "visitor" cannot list resource "pods" in API group "" in the namespace "default"');
    });

    test('R16: verb get is enough to read, and not enough to write or to run a command', async () => {
      await grantSockets(env.parent, { user: 'reader', verbs: ['get'] });
      const reader = await kubectlOf('reader', ['devs']);
      expect(await reader.ok(['get', 'pods', '-o', 'name'])).toContain('pod/web\n');
      const create = await reader.run(['create', 'configmap', 'refused']);
      expect(create).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot create resource "sockets/proxy"') });
      const remove = await reader.run(['delete', 'pod', 'web', '--wait=false']);
      expect(remove).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot delete resource "sockets/proxy"') });
      for (const websockets of ['true', 'false']) {
        const marker = join(env.child.workDir, `ran-${websockets}`);
        const exec = await reader.run(['exec', 'web', '--', 'touch', marker], {
          env: { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: websockets },
        });
        expect(exec.code, exec.stdout).not.toBe(0);
        expect(exec.stderr.toLowerCase()).toContain('forbidden');
        const files = await env.child.lab.kubectl(['exec', 'web', '--', 'ls']);
        expect(files.stdout).not.toContain(`ran-${websockets}`);
      }
    });

    test('a role for one cluster by resourceNames opens only that one', async () => {
      const id = await env.agent.clusterID();
      await grantSockets(env.parent, { user: 'owner', verbs: ['*'], clusters: [id] });
      await grantSockets(env.parent, { user: 'neighbour', verbs: ['*'], clusters: [randomUUID()] });
      expect(await (await kubectlOf('owner', ['devs'])).ok(['get', 'pods', '-o', 'name'])).toContain('pod/web\n');
      const refused = await (await kubectlOf('neighbour', ['devs'])).run(['get', 'pods']);
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot get resource "sockets/proxy"') });
    });

    test('an unknown cluster is 404, for kubectl and as a Status', async () => {
      const id = randomUUID();
      const path = `/apis/proxies.clusternet.io/v1alpha1/sockets/${id}/proxy/direct/version`;
      const answer = await env.parent.api.request('GET', path);
      expect(JSON.parse(answer.text) as Status).toMatchObject({ kind: 'Status', reason: 'NotFound', code: 404 });
      expect(answer.status).toBe(404);
      const { stderr } = await env.parent.kubectl(['get', '--raw', path]);
      expect(stderr).toContain('NotFound');
      expect(stderr).toContain(id);
    });

    test('R43: an agent that is away is 503 with since when, within a second, and reached again after its start', async () => {
      const path = await env.agent.proxyPath('/version');
      const dev = env.parent.clientFor({ user: 'dev', groups: ['devs'] });
      await env.agent.kill();
      try {
        const died = performance.now();
        const answer = await waitFor(
          async () => {
            const got = await dev.request('GET', path);
            return got.status === 503 && got;
          },
          { what: '503', timeout: 5_000, interval: 10 },
        );
        expect(performance.now() - died).toBeLessThan(2_000);
        const status = JSON.parse(answer.text) as Status;
        expect(status).toMatchObject({ kind: 'Status', reason: 'ServiceUnavailable', code: 503 });
        expect(status.message).toMatch(/since .*\d{4}-\d\d-\d\dT/);
      } finally {
        await env.agent.start();
        await env.agent.waitForConnected();
      }
    });

    test('kubectl infra kubeconfig makes a kubeconfig that works', async () => {
      const id = await env.agent.clusterID();
      await grantSockets(env.parent, { user: 'plain', verbs: ['*'], clusters: [id] });
      await env.child.grant({ kind: 'User', name: 'plain' });
      await env.parent.kubectl(['create', 'clusterrole', 'see-clusters', '--verb=get,list', '--resource=clusters.infraops.michael.io']);
      await env.parent.kubectl(['create', 'clusterrolebinding', 'see-clusters', '--clusterrole=see-clusters', '--user=plain']);
      const made = await runCommand(process.execPath, [plugin, 'kubeconfig', 'child'], {
        env: env.parent.commandEnv(env.parent.kubeconfigFor({ user: 'plain' })),
      });
      expect(made, made.stderr).toMatchObject({ code: 0 });
      const file = join(env.parent.dir, 'child.kubeconfig');
      writeFileSync(file, made.stdout, { mode: 0o600 });
      expect(await kubectlWith(env.parent, file).ok(['get', 'pods', '-o', 'name'])).toContain('pod/web\n');
    });
  });
}
