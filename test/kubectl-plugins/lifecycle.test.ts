import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { waitFor } from '../../e2e/lab/wait.ts';
import { chainEntry, FIRST_PREVIOUS } from '../../src/kube/audit-chain.ts';
import type { AuditEntry, LifecycleOperation, OperationType } from '../../src/kube/lifecycle.ts';
import { type FakeApi, fail, type Recorded, reply, startFakeApi } from './fake-api.ts';
import { type Workbench, workbench } from './plugin.ts';

const EDGE = '/apis/infraops.michael.io/v1/clusters/edge-1/';

let bench: Workbench;
let api: FakeApi;
let config: string;
/** What the agent says of its last operation. */
let operation: LifecycleOperation;
let answers: (request: Recorded, response: ServerResponse) => boolean;

beforeAll(async () => {
  bench = await workbench();
}, 60_000);
afterAll(() => bench.close());
beforeEach(async () => {
  api = await startFakeApi();
  config = bench.kubeconfig(api);
  operation = started('Install');
  answers = () => false;
  api.intercept = (request, response) => {
    if (!request.path.startsWith(EDGE)) return false;
    if (answers(request, response)) return true;
    const sub = request.path.slice(EDGE.length);
    if (request.method === 'GET' && sub === 'lifecycle') return reply(response, 200, cluster());
    if (request.method !== 'GET') return reply(response, request.method === 'POST' ? 201 : 202, cluster());
    return false;
  };
});
afterEach(() => api.close());

const started = (type: OperationType): LifecycleOperation => ({
  id: `op-${type}`,
  type,
  phase: 'Running',
  steps: [
    { name: 'preflight', state: 'Done' },
    { name: 'kubeadm-init', state: 'Running' },
  ],
});
const cluster = () => ({
  apiVersion: 'infraops.michael.io/v1',
  kind: 'ClusterLifecycle',
  metadata: { name: 'edge-1' },
  spec: { clusterType: 'kubeadm' },
  status: { phase: 'Provisioning', kubernetesVersion: 'v1.36.3', operation },
});
const end = (phase: 'Succeeded' | 'Failed', more: Partial<LifecycleOperation> = {}) => {
  operation = { ...operation, phase, ...more, steps: operation.steps.map((step) => ({ ...step, state: 'Done' as const })) };
};
const infra = (...args: string[]) => bench.run('kubectl-infra', [...args, `--kubeconfig=${config}`]);
const begin = (...args: string[]) => bench.start('kubectl-infra', [...args, `--kubeconfig=${config}`]);
const changes = () => api.requests.filter(({ method }) => method !== 'GET');
const reads = () => api.requests.filter(({ method, path }) => method === 'GET' && path === `${EDGE}lifecycle`).length;

test('create from a file with --set: sent as it is, followed step by step to the end', async () => {
  const file = bench.file(
    'cluster.yaml',
    'apiVersion: infraops.michael.io/v1\nkind: ClusterLifecycle\nspec:\n  version: v1.35.4\n  apiServer:\n    certSANs: [a]\n',
  );
  const running = begin(
    ...[
      'lifecycle',
      'create',
      'edge-1',
      '-f',
      file,
      '--set',
      'version=v1.36.3',
      '--set=apiServer.certSANs=b,c',
      '--set',
      'disableWorkloads=true',
    ],
    ...['--set', 'extraArgs.apiServer.audit-log-maxage=30', '--set=networking.podSubnet=10.1.0.0/16'],
  );
  await waitFor(() => running.stderr().includes('edge-1: Install 1/2: kubeadm-init'), { what: 'the step that runs' });
  end('Succeeded');
  const { code, stdout, stderr } = await running.done;
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^cluster\/edge-1 created \(\d+s, Kubernetes v1\.36\.3\)\n$/)]);
  expect(stderr).toContain('edge-1: Install 2/2');
  const [post] = changes();
  expect([post?.method, post?.path]).toEqual(['POST', `${EDGE}lifecycle`]);
  expect(post?.body).toEqual({
    apiVersion: 'infraops.michael.io/v1',
    kind: 'ClusterLifecycle',
    spec: {
      version: 'v1.36.3',
      apiServer: { certSANs: ['b', 'c'] },
      disableWorkloads: true,
      extraArgs: { 'apiServer.audit-log-maxage': '30' },
      networking: { podSubnet: '10.1.0.0/16' },
    },
  });
});

test('an agent, a hub or a machine that is away for a while does not end the wait', async () => {
  const running = begin('restart-machine', 'cluster/edge-1');
  await waitFor(() => reads() > 0, { what: 'the first look' });
  const faults = [
    (response: ServerResponse) => fail(response, 503, 'ServiceUnavailable', 'its agent is away'),
    (response: ServerResponse) => {
      response.destroy();
      return true;
    },
    (response: ServerResponse) => fail(response, 403, 'Forbidden', 'not read yet'),
  ];
  answers = ({ method }, response) => method === 'GET' && (faults.shift()?.(response) ?? false);
  await waitFor(() => faults.length === 0, { what: 'the faults', timeout: 20_000 });
  end('Succeeded');
  const { code, stdout, stderr } = await running.done;
  expect([code, stdout]).toEqual([0, expect.stringContaining('cluster/edge-1 restarted')]);
  expect(stderr).toContain('no answer, trying again: its agent is away');
  expect(changes().map(({ method, path }) => `${method} ${path}`)).toEqual([`POST ${EDGE}restart`]);
});

test('a failed operation is exit 1 with its own words and the next command', async () => {
  end('Failed', { message: 'kubeadm init: exit 1: \u001b[31mport 6443 is in use', nextCommand: 'ss -ltnp' });
  const { code, stdout, stderr } = await infra('lifecycle', 'create', 'edge-1', '--set', 'version=v1.36.3');
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr).toContain(
    'error: Install of cluster edge-1 failed: kubeadm init: exit 1: ^[[31mport 6443 is in use; see kubectl infra lifecycle logs edge-1',
  );
  expect(stderr).toContain('next, on the machine: ss -ltnp');
});

test('refused by the agent is exit 3, invalid exit 1, not finished exit 4', async () => {
  answers = ({ method }, response) => method !== 'GET' && fail(response, 409, 'Conflict', 'Install op-7 runs');
  expect(await infra('lifecycle', 'delete', 'edge-1', '--yes')).toEqual({ code: 3, stdout: '', stderr: 'refused: Install op-7 runs\n' });
  answers = ({ method }, response) => method !== 'GET' && fail(response, 422, 'Invalid', 'spec.version: too new');
  expect(await infra('lifecycle', 'upgrade', 'edge-1', '--version=v1.99.0')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('spec.version: too new'),
  });
  answers = () => false;
  const late = await infra('lifecycle', 'repair', 'edge-1', '--timeout=1s');
  expect([late.code, late.stderr]).toEqual([
    4,
    expect.stringContaining('not finished within 1s: the operation goes on (Install op-Install, Install 1/2)'),
  ]);
  answers = ({ method }, response) => {
    if (method !== 'GET') response.destroy();
    return method !== 'GET';
  };
  const lost = await infra('lifecycle', 'delete', 'edge-1', '--yes');
  expect([lost.code, lost.stderr]).toEqual([4, expect.stringContaining('it may have begun')]);
});

test('another operation that took the place ends the wait: the outcome is not known', async () => {
  const running = begin('lifecycle', 'repair', 'edge-1');
  await waitFor(() => reads() > 0, { what: 'the first look' });
  operation = started('Delete');
  const { code, stderr } = await running.done;
  expect([code, stderr]).toEqual([4, expect.stringContaining('kubectl infra audit edge-1')]);
});

test('verbs and paths of the others; nothing to do; --no-wait', async () => {
  end('Succeeded');
  expect(await infra('lifecycle', 'upgrade', 'edge-1', '--version', 'v1.36.3')).toMatchObject({ code: 0 });
  expect(
    await infra('lifecycle', 'patch', 'edge-1', '--set=clusterRuntime.clusterCri.skipTls=false', '--set=clusterName=null'),
  ).toMatchObject({ code: 0 });
  expect(await infra('lifecycle', 'delete', 'edge-1', '-y')).toMatchObject({ code: 0, stdout: expect.stringContaining('deleted') });
  expect(await infra('certs', 'edge-1', '--rotate')).toMatchObject({ code: 0, stdout: expect.stringContaining('certificates rotated') });
  expect(changes().map(({ method, path, headers, body }) => [method, path.slice(EDGE.length), headers['content-type'], body])).toEqual([
    ['PUT', 'lifecycle', 'application/json', { spec: { version: 'v1.36.3' } }],
    [
      'PATCH',
      'lifecycle',
      'application/merge-patch+json',
      { spec: { clusterRuntime: { clusterCri: { skipTls: false } }, clusterName: null } },
    ],
    ['DELETE', 'lifecycle', undefined, undefined],
    ['DELETE', 'certs', undefined, undefined],
  ]);
  answers = ({ method }, response) => method === 'PATCH' && reply(response, 200, cluster());
  expect(await infra('lifecycle', 'patch', 'edge-1', '--set=disableWorkloads=true')).toMatchObject({
    code: 0,
    stdout: 'cluster/edge-1 unchanged\n',
  });
  operation = started('Repair');
  const before = reads();
  expect(await infra('lifecycle', 'repair', 'edge-1', '--no-wait')).toEqual({
    code: 0,
    stdout: 'cluster/edge-1 Repair accepted (operation op-Repair)\n',
    stderr: `follow it: kubectl infra lifecycle logs edge-1 -f --kubeconfig=${config}\n`,
  });
  expect(reads()).toBe(before);
});

test('--dry-run=server prints commands and files', async () => {
  answers = ({ method, query }, response) =>
    method !== 'GET' &&
    reply(response, 200, {
      kind: 'OperationPlan',
      operation: 'Install',
      dryRun: query.get('dryRun'),
      actions: [
        { step: 'swap', kind: 'command', argv: ['swapoff', '-a', 'it is off'], text: 'swapoff' },
        { step: 'sysctl', kind: 'write', path: '/etc/sysctl.d/k.conf', mode: '0644', content: 'a = 1\nb = 2\n', text: 'settings' },
      ],
    });
  const { code, stdout } = await infra('lifecycle', 'delete', 'edge-1', '--dry-run=server');
  expect([code, stdout]).toEqual([
    0,
    "Install: 2 actions (server dry run, nothing was changed)\n\nswap:\n  $ swapoff -a 'it is off'\n\nsysctl:\n  write /etc/sysctl.d/k.conf (0644): settings\n    | a = 1\n    | b = 2\n",
  ]);
  expect(changes()[0]?.query.get('dryRun')).toBe('All');
});

test('mistakes of the command line are exit 2, and nothing is sent', async () => {
  const secret = bench.file('bad.yaml', 'spec: {password: hunter2');
  for (const wrong of [
    ['lifecycle', 'create', 'edge-1'],
    ['lifecycle', 'create', 'a', 'b', '--set=version=v1'],
    ['lifecycle', 'create', 'edge-1', '--set=versio=v1'],
    ['lifecycle', 'create', 'edge-1', '--set=networking=x'],
    ['lifecycle', 'create', 'edge-1', '--set=disableWorkloads=yes'],
    ['lifecycle', 'create', 'edge-1', '-f', '/nonexistent'],
    ['lifecycle', 'create', 'edge-1', '-f', secret],
    ['lifecycle', 'upgrade', 'edge-1'],
    ['lifecycle', 'patch', 'edge-1'],
    ['lifecycle', 'delete', 'edge-1'],
    ['lifecycle', 'repair', 'edge-1', '--timeout=0'],
    ['lifecycle', 'repair', 'edge-1', '--wait', '--no-wait'],
    ['lifecycle', 'repair', 'edge-1', '--dry-run=client'],
    ['lifecycle', 'repair'],
    ['lifecycle', 'nonsense', 'edge-1'],
    ['lifecycle'],
    ['certs', 'edge-1', '--timeout=1m'],
    ['kubeconfig', 'edge-1', '--admin', '--merge'],
  ]) {
    const { code, stdout, stderr } = await infra(...wrong);
    expect([wrong, code, stdout]).toEqual([wrong, 2, '']);
    expect(stderr).not.toContain('hunter2');
  }
  expect(api.requests).toEqual([]);
}, 60_000);

test('R66: audit shows the history and verifies it: edited, removed and moved entries are errors', async () => {
  let entries: AuditEntry[] = [];
  let omitted: number | undefined;
  for (let count = 0; count < 5; count++) {
    const content = {
      ...{
        operation: 'Install',
        Status: 'Completed' as const,
        reason: 'Done',
        message: `entry ${count}`,
        lastExecuted: '2026-11-21T00:00:00Z',
      },
      ...{ clusterType: 'kubeadm', currentVersion: 'v1.36.3', requestedBy: 'jane', auditID: 'a', operationID: 'o' },
    };
    entries.push(chainEntry(content, entries.at(-1) ?? { sequence: 0, hash: FIRST_PREVIOUS }));
  }
  const whole = entries;
  answers = ({ path }, response) =>
    path === `${EDGE}audit` && reply(response, 200, { kind: 'ClusterAudit', metadata: { name: 'edge-1' }, operations: entries, omitted });
  const good = await infra('audit', 'edge-1');
  expect([good.code, good.stdout.split('\n')[0], good.stdout.split('\n').length]).toEqual([
    0,
    expect.stringMatching(/^SEQ +TIME +OPERATION +STATUS +VERSION +BY +REASON +MESSAGE$/),
    7,
  ]);
  expect(good.stderr).toContain(`5 entries, chain verified, last hash ${whole[4]?.hash}`);
  const [first, second, third, ...others] = whole;
  if (!first || !second || !third) throw new Error('no entries');
  const forged = { ...second, requestedBy: 'eve' };
  const rehashed = {
    ...forged,
    hash: createHash('sha256')
      .update(JSON.stringify({ ...forged, hash: undefined }))
      .digest('hex'),
  };
  for (const [wrong, sequence] of [
    [[first, forged, third, ...others], 2],
    [[first, rehashed, third, ...others], 3],
    [[first, third, ...others], 2],
    [[second, first, third, ...others], 1],
    [[second, third], 1],
  ] as const) {
    entries = [...wrong];
    const { code, stderr } = await infra('audit', 'edge-1', '-ojson');
    expect([code, stderr]).toEqual([1, expect.stringContaining(`tampered with: entry ${sequence}:`)]);
  }
  // Of one that is too long for an answer the end is verified by itself.
  omitted = 2;
  entries = whole.slice(2);
  expect((await infra('audit', 'edge-1')).stderr).toContain('3 entries, chain verified from entry 3 on');
  for (const [wrong, sequence] of [
    [whole.slice(3), 3],
    [[third, ...others.slice(1)], 4],
    [[{ ...third, requestedBy: 'eve' }, ...others], 3],
  ] as const) {
    entries = [...wrong];
    expect((await infra('audit', 'edge-1')).stderr).toContain(`tampered with: entry ${sequence}:`);
  }
}, 60_000);

test('get, certs, logs and the own kubeconfig', async () => {
  const kubeconfig = 'apiVersion: v1\nkind: Config\nclusters:\n- name: k\n  cluster:\n    server: https://192.0.2.7:6443\n';
  answers = ({ path, query, headers }, response) => {
    const sub = path.slice(EDGE.length);
    if (sub === 'certs')
      return reply(response, 200, { CertsInfo: [{ name: 'apiserver', remainingDaysToExpire: '364', expiryDate: '2027-11-21T00:00:00Z' }] });
    if (sub === 'log') {
      response.writeHead(200, { 'content-type': 'text/plain' }).end(`follow=${query.get('follow')} \u001b[2J\n`);
      return true;
    }
    if (sub === 'kubeconfig') {
      response.writeHead(200, { 'content-type': 'application/yaml' }).end(kubeconfig);
      return true;
    }
    if (!String(headers.accept).includes('as=Table')) return false;
    end('Failed', { message: 'no disk' });
    const conditions = [{ type: 'NodeReady', status: 'False', reason: 'KubeletDown', message: 'it does not answer' }];
    const shown = { ...cluster(), status: { ...cluster().status, conditions, drift: [{ path: '/etc/x', problem: 'changed' }] } };
    const columnDefinitions = [
      { name: 'Name', priority: 0 },
      { name: 'Phase', priority: 0 },
    ];
    return reply(response, 200, { kind: 'Table', columnDefinitions, rows: [{ cells: ['edge-1', 'Failed'], object: shown }] });
  };
  expect((await infra('lifecycle', 'get', 'edge-1')).stdout).toBe(
    'NAME     PHASE\nedge-1   Failed\n\nNodeReady is not so (KubeletDown): it does not answer\nInstall failed: no disk\n/etc/x: changed; to put it back: kubectl infra lifecycle repair\n',
  );
  expect((await infra('lifecycle', 'get', 'edge-1', '-ojsonpath={.status.phase}')).stdout).toBe('Provisioning');
  expect((await infra('certs', 'edge-1')).stdout).toBe('NAME        DAYS-LEFT   EXPIRES\napiserver   364         2027-11-21T00:00:00Z\n');
  expect(await infra('lifecycle', 'logs', 'edge-1', '-f')).toEqual({ code: 0, stderr: '', stdout: 'follow=true ^[[2J\n' });
  const out = join(bench.folder, 'admin.kubeconfig');
  expect(await infra('kubeconfig', 'edge-1', '--admin', '-o', out)).toMatchObject({
    code: 0,
    stderr: expect.stringContaining('https://192.0.2.7:6443'),
  });
  expect(readFileSync(out, 'utf8')).toBe(kubeconfig);
});

test('help and completion know the commands of two words', async () => {
  const overview = (await infra('lifecycle', '--help')).stdout;
  expect(overview).toMatch(/kubectl infra lifecycle COMMAND[\s\S]*\n {2}create +Make a machine/);
  expect((await infra('help', 'lifecycle', 'upgrade')).stdout).toContain('--version=VERSION');
  expect((await infra('lifecycle', 'upgrade', '--help')).stdout).toContain('kubectl infra lifecycle upgrade CLUSTER');
  expect((await infra('--help')).stdout).toMatch(/\n {2}lifecycle create +Make a machine/);
  const complete = async (...args: string[]) => (await bench.run('kubectl_complete-infra', args, { KUBECONFIG: config })).stdout;
  expect(await complete('li')).toBe('lifecycle\tThe single-node clusters on machines\n:4\n');
  expect(await complete('lifecycle', 'up')).toBe('upgrade\tUpgrade the cluster on a machine\n:4\n');
  expect(await complete('lifecycle', 'upgrade', 'edge-1', '--vers')).toMatch(/^--version\t/);
  expect(await complete('lifecycle', 'create', 'edge-1', '-f', '')).toBe(':0\n');
  api.intercept = ({ path }, response) =>
    path.endsWith('/clusters') &&
    reply(response, 200, { items: [{ metadata: { name: 'edge-1' }, spec: {}, status: { connected: true } }] });
  expect(await complete('lifecycle', 'delete', '')).toBe('edge-1\tup\n:4\n');
  expect(await complete('restart-machine', '')).toBe('edge-1\tup\n:4\n');
});
