import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { agentApi } from '../../../../src/agent/api/agent-api.ts';
import { agentAnswers } from '../../../../src/agent/api/answers.ts';
import { socketServer } from '../../../../src/agent/api/socket-server.ts';
import { ROUTES } from '../../../../src/agent/lifecycle/api/routes.ts';
import type { AgentCluster, AuditHistory } from '../../../../src/kube/lifecycle.ts';
import { AGENT_AUTHORITY } from '../../../../src/tunnel/protocol.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { waitUntil } from '../../../support/wait-until.ts';
import { entrances } from '../support/entrances.ts';
import { cluster, sandbox, settled } from '../support/sandbox.ts';

const clean = cleanUp();
const CLUSTER = '/api/v1alpha1/cluster';
const json = <T>(text: { body: string }): T => JSON.parse(text.body) as T;

test('a cluster is made through the tunnel by the user of the parent, and read on the socket', async () => {
  const { box, lifecycle, socket, through } = await entrances(clean);
  const made = await through('POST', CLUSTER, cluster(), { 'audit-id': 'kube-audit-1' });
  expect(made.code).toBe(201);
  expect(json<AgentCluster>(made)).toMatchObject({ apiVersion: 'v1alpha1', kind: 'Cluster', status: { phase: 'Provisioning' } });
  const busy = await socket('DELETE', CLUSTER);
  expect(busy.code).toBe(409);
  expect(json(busy)).toMatchObject({
    kind: 'Status',
    status: 'Failure',
    reason: 'Conflict',
    code: 409,
    message: expect.stringContaining('Install'),
  });
  await settled(lifecycle, 'Provisioned');
  expect(json<AgentCluster>(await socket('GET', CLUSTER))).toMatchObject({
    spec: { version: 'v1.35.4' },
    status: { phase: 'Provisioned' },
  });
  expect((await socket('PUT', CLUSTER, 'spec:\n  version: v1.36.3\n', { 'content-type': 'application/yaml' })).code).toBe(202);
  await settled(lifecycle, 'Provisioned');
  expect(
    (
      await through(
        'PATCH',
        CLUSTER,
        { spec: { apiServer: { certSANs: ['x.example'] } } },
        { 'content-type': 'application/merge-patch+json' },
      )
    ).code,
  ).toBe(202);
  await settled(lifecycle, 'Provisioned');
  expect((await through('PATCH', CLUSTER, { spec: { apiServer: { certSANs: ['x.example'] } } })).code).toBe(200);
  expect(json(await through('GET', '/api/v1alpha1/kubeconfig'))).toEqual({ contents: 'kubeconfig of v1.35.4\n' });
  expect(json(await socket('GET', '/api/v1alpha1/certs'))).toMatchObject({
    CertsInfo: [{ name: 'apiserver', remainingDaysToExpire: expect.any(String) }, { name: 'etcd-ca' }],
  });
  expect((await socket('DELETE', '/api/v1alpha1/certs')).code).toBe(202);
  await settled(lifecycle, 'Provisioned');
  expect((await socket('PUT', '/api/v1alpha1/repair')).code).toBe(202);
  await settled(lifecycle, 'Provisioned');
  expect((await socket('POST', '/api/v1alpha1/restart?dryRun=All')).code).toBe(200);
  expect(json<{ reconciler: unknown[] }>(await socket('GET', '/api/v1alpha1/reconciler')).reconciler).toHaveLength(3);
  const { operations } = json<AuditHistory>(await socket('GET', `${CLUSTER}/audit`));
  expect(operations[0]).toMatchObject({ operation: 'Install', requestedBy: 'jane', auditID: 'kube-audit-1' });
  expect(operations.find(({ operation }) => operation === 'Upgrade')?.requestedBy).toBe('local');
  expect((await socket('DELETE', CLUSTER)).code).toBe(202);
  await settled(lifecycle, 'Deleted');
  expect(box.errors).toEqual([]);
});

test.each<[string, string, string, unknown, Record<string, string>, number]>([
  ['a path that is none', 'GET', '/api/v1alpha1/nothing', undefined, {}, 404],
  ['a method that is none', 'POST', '/api/v1alpha1/kubeconfig', {}, {}, 405],
  ['a body that is no JSON', 'POST', CLUSTER, '{"spec":', {}, 400],
  ['an empty body', 'POST', CLUSTER, '', {}, 400],
  ['another media type', 'POST', CLUSTER, 'a=b', { 'content-type': 'application/x-www-form-urlencoded' }, 415],
  ['a patch by operations', 'PATCH', CLUSTER, '[]', { 'content-type': 'application/json-patch+json' }, 415],
  ['a dry run of something else', 'POST', `${CLUSTER}?dryRun=Some`, {}, {}, 400],
  ['a dry run of reading', 'GET', `${CLUSTER}?dryRun=All`, undefined, {}, 400],
  ['an unknown field', 'POST', CLUSTER, { spec: { x: 1 } }, {}, 422],
  ['a body without end', 'POST', CLUSTER, Buffer.alloc((1 << 20) + 1, ' '), {}, 413],
  [
    'YAML that grows without end',
    'POST',
    CLUSTER,
    `a: &a [x,x]\nb: &b [*a,*a]\n${'c: [*b,*b,*b,*b,*b,*b,*b,*b]\n'.repeat(1)}${Array.from({ length: 200 }, (_, at) => `k${at}: *b`).join('\n')}`,
    { 'content-type': 'application/yaml' },
    400,
  ],
])('refused at both entrances: %s', async (_what, method, path, body, headers, code) => {
  const { box, socket, through } = await entrances(clean);
  for (const ask of [socket, through]) {
    const answer = await ask(method, path, body, headers);
    expect(answer.code).toBe(code);
    expect(json(answer)).toMatchObject({
      kind: 'Status',
      apiVersion: 'v1',
      status: 'Failure',
      code,
      message: expect.any(String),
      reason: expect.any(String),
    });
  }
  expect(box.errors).toEqual([]);
});

test('through the tunnel nobody without a name gets anything but health', async () => {
  const { tunnel, port } = await entrances(clean);
  const ask = async (method: string, path: string) => {
    const stream = tunnel.session.request(
      { ':method': method, ':path': path, ':authority': AGENT_AUTHORITY, ':scheme': 'https' },
      { endStream: true },
    );
    const [head] = (await once(stream, 'response')) as [{ ':status': number }];
    stream.resume();
    await once(stream, 'end');
    return head[':status'];
  };
  for (const { method, path } of ROUTES) expect([403, 405], `${method} ${path}`).toContain(await ask(method, path));
  expect(await ask('GET', '/healthz')).toBe(200);
  expect(await ask('GET', '/metrics')).toBe(200);
  // The open port has none of it.
  for (const { method, path } of ROUTES) expect((await port(method, path)).code, `${method} ${path}`).toBe(404);
  expect((await port('GET', '/openapi/v3')).code).toBe(404);
  expect((await port('GET', '/healthz')).code).toBe(200);
});

test('the log is followed line by line, and let go when the reader leaves or the agent stops', async () => {
  const { lifecycle, socketPath, socket, through, stopping } = await entrances(clean);
  await socket('POST', CLUSTER, cluster());
  const follow = async () => {
    const request = httpRequest({ socketPath, path: `${CLUSTER}/log?follow=true`, agent: false });
    request.end();
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      text += chunk;
    });
    return { request, response, text: () => text };
  };
  const one = await follow();
  await waitUntil(() => one.text().includes('make-cluster making v1.35.4'), 'the step to say something');
  one.request.on('error', () => undefined);
  one.request.destroy();
  await settled(lifecycle, 'Provisioned');
  const whole = await through('GET', `${CLUSTER}/log`);
  expect(whole.type).toContain('text/plain');
  expect(whole.body).toContain('making v1.35.4');
  expect(whole.body.endsWith('\n')).toBe(true);
  const two = await follow();
  await waitUntil(() => two.text().includes('making'), 'the lines that were there');
  const ended = once(two.response, 'end');
  stopping.abort();
  await ended;
});

test('R66: when the history cannot be written, what changes something is a 503 and is not begun; reading goes on', async (context) => {
  const { box, lifecycle, socket } = await entrances(clean);
  const folder = join(box.stateDir, 'lifecycle/audit');
  await socket('POST', CLUSTER, cluster());
  await settled(lifecycle, 'Provisioned');
  await lifecycle.stop();
  const entries = await box.read('var/lib/fairlead-agent/lifecycle/audit/audit.jsonl');
  const head = await box.read('var/lib/fairlead-agent/lifecycle/audit/audit.head');
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', folder], { stdio: 'pipe' });
  } catch {
    context.skip('a small file system cannot be mounted here: it needs root');
  }
  clean.after(() => execFileSync('umount', ['-l', folder]));
  await writeFile(join(folder, 'audit.jsonl'), entries);
  await writeFile(join(folder, 'audit.head'), head);
  const again = await box.start();
  await writeFile(join(folder, 'ballast'), Buffer.alloc(100_000)).catch(() => undefined);
  const requester = { user: 'jane', auditID: 'full' };
  const change = { requester, dryRun: false };
  // What is left of the last page takes a few.
  for (let at = 0; at < 20; at++) await again.service.kubeconfig(requester).catch(() => undefined);
  const calls = [
    () => again.service.upgrade({ spec: { version: 'v1.36.3' } }, change),
    () => again.service.patch({ spec: { disableWorkloads: true } }, change),
    () => again.service.delete(change),
    () => again.service.rotateCertificates(change),
    () => again.service.repair(change),
    () => again.service.restart(change),
    () => again.service.kubeconfig(requester),
  ];
  for (const call of calls) await expect(call()).rejects.toMatchObject({ status: { code: 503, reason: 'ServiceUnavailable' } });
  expect((await again.service.get()).status).toMatchObject({ phase: 'Provisioned', operation: { type: 'Install' } });
  expect(again.problem()).toContain('cannot be written');
  expect((await again.service.audit()).operations.length).toBeGreaterThan(1);
});

test('the OpenAPI document has every route and no other, and every reference leads somewhere', async () => {
  const { socket } = await entrances(clean);
  const answer = await socket('GET', '/openapi/v3');
  expect(answer.code).toBe(200);
  const document = json<{
    paths: Record<string, Record<string, { operationId: string; responses: object }>>;
    components: { schemas: Record<string, object> };
  }>(answer);
  const described = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(described.sort()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
  const ids = Object.values(document.paths).flatMap((methods) => Object.values(methods).map(({ operationId }) => operationId));
  expect(new Set(ids).size).toBe(ids.length);
  for (const [, name] of answer.body.matchAll(/"#\/components\/schemas\/([^"]+)"/g))
    expect(Object.keys(document.components.schemas)).toContain(name);
  expect(document.components.schemas['Cluster']).toMatchObject({
    properties: { spec: { properties: { networking: { properties: { podSubnet: { type: 'string' } } } } } },
  });
  expect((await socket('GET', '/openapi.json')).body).toBe(answer.body);
  // What is described answers: no route is a 404 or a 405.
  for (const { method, path } of ROUTES) {
    if (path.endsWith('/restart')) continue;
    const { code, body } = await socket(method, path, method === 'GET' ? undefined : {});
    expect(code === 405 || body.includes('the agent has no'), `${method} ${path}`).toBe(false);
  }
});

test('requests and operations are counted by route', async () => {
  const { socket } = await entrances(clean);
  await socket('GET', CLUSTER);
  await socket('GET', '/api/v1alpha1/../../etc/passwd');
  const { body } = await socket('GET', '/metrics');
  expect(body).toContain(`http_request_request_frequency_count{cluster_type="",version="",code="200",method="GET",path="${CLUSTER}"} 1`);
  expect(body).toMatch(/http_request_request_frequency_count\{[^}]*code="404",method="other",path="other"\} 1/);
  expect(body).toContain('fairlead_agent_operations_total{type="Install",result="Succeeded"} 0');
});

test('the socket is for root and its group; a stale one is replaced, one in use and anything else is not', async () => {
  const box = await sandbox(clean);
  const api = agentApi(agentAnswers({ registry: box.registry, unready: () => undefined }), () => undefined);
  const fail = (error: unknown) => box.errors.push(error);
  const path = join(box.root, 'run/agent.sock');
  const first = await socketServer(path, api, fail);
  expect((await stat(path)).mode & 0o7777).toBe(0o660);
  await expect(socketServer(path, api, fail)).rejects.toThrow('another agent listens there');
  await first.close();
  // What a killed process leaves behind.
  const stale = join(box.root, 'run/stale.sock');
  spawnSync(
    process.execPath,
    ['-e', `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`],
    { stdio: 'ignore' },
  );
  expect((await stat(stale)).isSocket()).toBe(true);
  await (await socketServer(stale, api, fail)).close();
  const file = join(box.root, 'run/file');
  await mkdir(join(box.root, 'run'), { recursive: true });
  await writeFile(file, 'x');
  await expect(socketServer(file, api, fail)).rejects.toThrow('something else than a socket');
  const listening = createServer().listen(join(box.root, 'run/other.sock'));
  clean.after(() => new Promise((resolve) => listening.close(resolve)));
  await once(listening, 'listening');
  await expect(socketServer(join(box.root, 'run/other.sock'), api, fail)).rejects.toThrow('another agent');
});
