import { writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bundlePlugins } from '../../hack/release/bundle.ts';
import { runCommand } from '../lab/kubectl.ts';
import { waitFor } from '../lab/wait.ts';
import { CLUSTERS, type LifecycleEnv, lifecycleEnv } from './env.ts';

const EDGE = `${CLUSTERS}/edge-1`;
let env: LifecycleEnv;
let plugins: string;
beforeAll(async () => {
  env = await lifecycleEnv('edge-1');
  plugins = join(env.lab.dir, 'plugins');
  await bundlePlugins(plugins);
});
afterAll(() => env?.stop());

const raw = async (path: string) => await env.lab.kubectl(['get', '--raw', path]);
const infra = (args: readonly string[], kubeconfig = env.lab.adminKubeconfig) =>
  runCommand(process.execPath, [join(plugins, 'kubectl-infra'), ...args, `--kubeconfig=${kubeconfig}`], {
    env: { PATH: process.env['PATH'] ?? '', HOME: env.lab.dir },
  });
const json = (text: string) => JSON.parse(text) as Record<string, unknown>;
const file = (name: string, text: string) => {
  const path = join(env.lab.dir, name);
  writeFileSync(path, text);
  return path;
};

test('a machine without a cluster says so, by kubectl, by the plugin and by every replica of the hub', async () => {
  const answered = await raw(`${EDGE}/lifecycle`);
  expect(answered.code, answered.stderr).toBe(0);
  expect(json(answered.stdout)).toMatchObject({
    apiVersion: 'infraops.michael.io/v1',
    kind: 'ClusterLifecycle',
    metadata: { name: 'edge-1' },
    status: { phase: 'NotInitialised' },
  });
  expect(await infra(['lifecycle', 'get', 'edge-1'])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^NAME +TYPE +VERSION[\s\S]*\nedge-1 .*NotInitialised/),
  });
  const client = env.lab.clientFor({ user: 'system:admin', groups: ['system:masters'] });
  for (const replica of env.hub.replicas) {
    // By each replica in turn: the other one is out of the Service.
    const other = env.hub.replicas.find(({ index }) => index !== replica.index);
    if (other) await env.hub.kill(other.index);
    await waitFor(
      async () => {
        const { status, text } = await client.request('GET', `${EDGE}/lifecycle`);
        if (status !== 200) throw new Error(`${status} ${text.slice(0, 200)}`);
        return true;
      },
      { what: `an answer by replica ${replica.index}`, timeout: 60_000 },
    );
    if (other) await env.hub.start(other.index);
  }
});

test('what is wrong with a cluster is said by field, with kubectl create --raw and by the plugin, and nothing is begun', async () => {
  const wrong = file('wrong.yaml', 'apiVersion: infraops.michael.io/v1\nkind: ClusterLifecycle\nspec:\n  versoin: v1.36.3\n');
  const created = await env.lab.kubectl(['create', '--raw', `${EDGE}/lifecycle`, '-f', wrong]);
  expect([created.code, created.stderr]).toEqual([1, expect.stringContaining('spec.versoin')]);
  const plugin = await infra(['lifecycle', 'create', 'edge-1', '-f', wrong]);
  expect([plugin.code, plugin.stderr]).toEqual([1, expect.stringContaining('spec.versoin')]);
  const overlap = JSON.stringify({ spec: { version: 'v1.36.3', networking: { podSubnet: '10.0.0.0/16', svcSubnet: '10.0.1.0/24' } } });
  const { status, text } = await env.lab.api.request('POST', `${EDGE}/lifecycle`, { body: JSON.parse(overlap) });
  expect([status, json(text)]).toMatchObject([
    422,
    { reason: 'Invalid', details: { name: 'edge-1', causes: [{ field: expect.stringContaining('spec.networking.') }] } },
  ]);
  expect(json((await raw(`${EDGE}/lifecycle`)).stdout)).toMatchObject({ status: { phase: 'NotInitialised' } });
});

test('a dry run answers commands and files, and changes nothing', async () => {
  const body = { spec: { version: 'v1.36.3' } };
  const { status, text } = await env.lab.api.request('POST', `${EDGE}/lifecycle?dryRun=All`, { body });
  // The machine of this test is the one that it runs on, which may not be fit for a cluster.
  if (status === 409) {
    expect(json(text)).toMatchObject({ reason: 'Conflict', message: expect.stringContaining('step preflight would fail: ') });
    return;
  }
  expect([status, text.slice(0, 300)]).toEqual([200, expect.stringContaining('"kind":"OperationPlan"')]);
  const plan = json(text) as { operation: string; actions: { step: string }[] };
  expect(plan).toMatchObject({ apiVersion: 'infraops.michael.io/v1', operation: 'Install', metadata: { name: 'edge-1' } });
  expect(plan.actions.length).toBeGreaterThan(5);
  const shown = await infra(['lifecycle', 'create', 'edge-1', '--set', 'version=v1.36.3', '--dry-run=server']);
  expect([shown.code, shown.stdout]).toEqual([0, expect.stringMatching(/^Install: \d+ actions \(server dry run[\s\S]*\n {2}\$ /)]);
  expect(json((await raw(`${EDGE}/lifecycle`)).stdout)).toMatchObject({ status: { phase: 'NotInitialised' } });
});

test('without a cluster there is nothing to upgrade, delete or renew, and no kubeconfig', async () => {
  for (const args of [
    ['lifecycle', 'upgrade', 'edge-1', '--version=v1.36.3'],
    ['lifecycle', 'patch', 'edge-1', '--set=disableWorkloads=true'],
    ['lifecycle', 'delete', 'edge-1', '--yes'],
    ['lifecycle', 'repair', 'edge-1'],
    ['certs', 'edge-1', '--rotate'],
    ['kubeconfig', 'edge-1', '--admin'],
  ]) {
    const { code, stdout, stderr } = await infra(args);
    expect([args, code, stdout, stderr]).toEqual([args, expect.toBeOneOf([1, 3]), '', expect.not.stringContaining('is the hub installed')]);
  }
  expect((await infra(['audit', 'edge-1'])).code).toBe(0);
  const metrics = await raw(`${EDGE}/metrics`);
  expect(metrics.stdout).toContain('fairlead_agent_tunnels ');
  expect((await raw(`${EDGE}/log`)).code).toBe(0);
});

test('rights: by verb, subresource and name', async () => {
  const { kubectl, kubeconfigFor } = env.lab;
  for (const args of [
    ['create', 'clusterrole', 'edge-reader', '--verb=get', '--resource=clusters.infraops.michael.io/lifecycle', '--resource-name=edge-1'],
    ['create', 'clusterrolebinding', 'edge-reader', '--clusterrole=edge-reader', '--user=reader'],
  ])
    expect((await kubectl(args)).stderr).toBe('');
  const kubeconfig = kubeconfigFor({ user: 'reader' });
  await waitFor(async () => (await kubectl(['get', '--raw', `${EDGE}/lifecycle`], { kubeconfig })).code === 0, {
    what: 'the right',
    timeout: 30_000,
  });
  for (const sub of ['kubeconfig', 'certs', 'audit', 'log', 'metrics']) {
    const refused = await kubectl(['get', '--raw', `${EDGE}/${sub}`], { kubeconfig });
    expect([sub, refused.code, refused.stderr]).toEqual([sub, 1, expect.stringContaining('Forbidden')]);
  }
  expect((await kubectl(['get', '--raw', `${CLUSTERS}/edge-2/lifecycle`], { kubeconfig })).stderr).toContain('Forbidden');
  expect(await infra(['lifecycle', 'delete', 'edge-1', '--yes'], kubeconfig)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('Forbidden'),
  });
  expect(await infra(['restart-machine', 'edge-1'], kubeconfig)).toMatchObject({ code: 1, stderr: expect.stringContaining('Forbidden') });
});

test('log?follow=true answers through kube-apiserver before there is a line, stays open, and ends when the client ends it', async () => {
  const { certificate, key } = env.lab.clientCertificate({ user: 'follower', groups: ['system:masters'] });
  const options = { agent: false, ca: env.lab.ca, cert: certificate, key } as const;
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request(new URL(`${EDGE}/log?follow=true`, env.lab.apiServerURL), options, resolve)
      .on('error', reject)
      .end();
  });
  response.on('error', () => undefined).resume();
  expect([response.statusCode, response.headers['content-type']]).toEqual([200, 'text/plain; charset=utf-8']);
  expect((await raw(`${EDGE}/metrics`)).code).toBe(0);
  expect([response.closed, response.complete]).toEqual([false, false]);
  response.destroy();
});

test('an agent that is away is 503 with since when', async () => {
  await env.agent.stop('SIGTERM', 30_000);
  await waitFor(async () => (await env.lab.api.request('GET', `${EDGE}/lifecycle`)).status === 503, {
    what: 'the end of the tunnels',
    timeout: 60_000,
  });
  const { text } = await env.lab.api.request('GET', `${EDGE}/lifecycle`);
  expect(json(text)['message']).toMatch(/is not connected since \d{4}-.*: its agent is away/);
  expect(await infra(['lifecycle', 'get', 'edge-1'])).toMatchObject({ code: 1, stderr: expect.stringContaining('its agent is away') });
});
