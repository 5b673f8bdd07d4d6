import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { parse } from 'yaml';
import { routes } from '../../../src/hub/http/routes.ts';
import { CLUSTERS_API, registrationName } from '../../../src/kube/clusternet.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { clusters } from '../discovery/resources.ts';
import { type AgentLab, agentLab, CLUSTER, putCluster, status } from './agent-lab.ts';

let lab: AgentLab;
beforeAll(async () => {
  lab = await agentLab();
}, 30_000);
afterAll(() => lab.close());
beforeEach(() => {
  lab.end.reset();
  lab.hub.allow((user) => user === 'admin' || user === 'agent');
});

const SPEC = { spec: { clusterType: 'kubeadm', version: 'v1.36.3' } };
const LIFECYCLE = {
  apiVersion: 'infraops.michael.io/v1',
  kind: 'ClusterLifecycle',
  metadata: { name: 'edge' },
  spec: CLUSTER.spec,
  status,
};
const CERTS = { CertsInfo: [{ name: 'apiserver', remainingDaysToExpire: '364', expiryDate: '2027-11-21T00:00:00Z' }] };
const AUDIT = { operations: [{ sequence: 1, operation: 'Install', Status: 'Completed', lastExecuted: '2026-11-21T00:00:00Z' }] };
const KUBECONFIG = 'apiVersion: v1\nkind: Config\n';

type Row = { sub: string; method: string; verb: string; at: string; body?: object; code: number; says?: object | string; object?: unknown };

const rows: Row[] = [
  { sub: 'lifecycle', method: 'GET', verb: 'get', at: 'GET /api/v1alpha1/cluster', code: 200, object: LIFECYCLE },
  { sub: 'lifecycle', method: 'POST', verb: 'create', at: 'POST /api/v1alpha1/cluster', body: SPEC, code: 201, object: LIFECYCLE },
  { sub: 'lifecycle', method: 'PUT', verb: 'update', at: 'PUT /api/v1alpha1/cluster', body: SPEC, code: 202, object: LIFECYCLE },
  { sub: 'lifecycle', method: 'PATCH', verb: 'patch', at: 'PATCH /api/v1alpha1/cluster', body: SPEC, code: 202, object: LIFECYCLE },
  { sub: 'lifecycle', method: 'DELETE', verb: 'delete', at: 'DELETE /api/v1alpha1/cluster', code: 202, object: LIFECYCLE },
  { sub: 'restart', method: 'POST', verb: 'create', at: 'POST /api/v1alpha1/restart', code: 201, object: LIFECYCLE },
  { sub: 'repair', method: 'POST', verb: 'create', at: 'PUT /api/v1alpha1/repair', code: 201, object: LIFECYCLE },
  { sub: 'certs', method: 'DELETE', verb: 'delete', at: 'DELETE /api/v1alpha1/certs', code: 202, object: LIFECYCLE },
  {
    sub: 'certs',
    method: 'GET',
    verb: 'get',
    at: 'GET /api/v1alpha1/certs',
    code: 200,
    says: CERTS,
    object: { apiVersion: 'infraops.michael.io/v1', kind: 'ClusterCertificates', metadata: { name: 'edge' }, ...CERTS },
  },
  {
    sub: 'audit',
    method: 'GET',
    verb: 'get',
    at: 'GET /api/v1alpha1/cluster/audit',
    code: 200,
    says: AUDIT,
    object: { apiVersion: 'infraops.michael.io/v1', kind: 'ClusterAudit', metadata: { name: 'edge' }, ...AUDIT },
  },
  { sub: 'kubeconfig', method: 'GET', verb: 'get', at: 'GET /api/v1alpha1/kubeconfig', code: 200, says: { contents: KUBECONFIG } },
  { sub: 'log', method: 'GET', verb: 'get', at: 'GET /api/v1alpha1/cluster/log', code: 200, says: 'a line\n' },
  { sub: 'metrics', method: 'GET', verb: 'get', at: 'GET /metrics', code: 200, says: 'up 1\n' },
];
const named = rows.map((row) => [`${row.method} ${row.sub}`, row] as const);
const send = (row: Row, more = {}) =>
  lab.ask(row.sub, { method: row.method, ...(row.body && { body: JSON.stringify(row.body) }), ...more });

test('a history that does not begin with its first entry says so', async () => {
  lab.end.says(() => ({ code: 200, body: { ...AUDIT, omitted: 41 } }));
  const answer = await lab.ask('audit', {});
  expect(JSON.parse(answer.body)).toMatchObject({ kind: 'ClusterAudit', omitted: 41 });
  expect(answer.headers['warning']).toContain('entries 1 to 41 are left out');
  lab.end.says(() => ({ code: 200, body: { ...AUDIT, omitted: -1 } }));
  expect((await lab.ask('audit', {})).code).toBe(502);
});

test.each(named)('%s goes to the agent with the caller and the Audit-ID, and its answer comes back', async (_, row) => {
  lab.end.says(() => ({ code: row.method === 'GET' ? 200 : 202, body: row.says ?? CLUSTER }));
  const answer = await send(row, { groups: ['ops', 'a,b'], headers: { 'audit-id': 'id-of-the-parent' } });
  expect([answer.code, answer.body]).toEqual([row.code, expect.any(String)]);
  if (row.object) expect(JSON.parse(answer.body)).toEqual(row.object);
  const [asked] = lab.end.asked;
  expect(`${asked?.method} ${asked?.path}`).toBe(row.at);
  expect(asked?.headers).toMatchObject({ ':authority': 'agent', 'audit-id': 'id-of-the-parent' });
  expect(asked?.caller).toMatchObject({ name: 'admin', groups: ['ops', 'a,b', 'system:authenticated'] });
  expect(asked?.body ? JSON.parse(asked.body) : undefined).toEqual(row.body);
  expect(asked?.headers['content-type']).toBe(row.body && (row.method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'));
});

test.each(named)('%s: who has all rights but this verb is refused, and the agent is not asked', async (_, row) => {
  let seen: Record<string, string> | undefined;
  lab.hub.allow((user, attributes) => {
    if (user !== 'half') return user === 'agent';
    seen = attributes;
    return !(attributes['verb'] === row.verb && attributes['subresource'] === row.sub);
  });
  const answer = await send(row, { user: 'half' });
  expect([answer.code, JSON.parse(answer.body)]).toEqual([
    403,
    expect.objectContaining({ kind: 'Status', reason: 'Forbidden', code: 403 }),
  ]);
  expect(seen).toMatchObject({ group: 'infraops.michael.io', resource: 'clusters', subresource: row.sub, verb: row.verb, name: 'edge' });
  expect(lab.end.asked).toEqual([]);
});

test.each(named)(
  '%s: an error of the agent passes with code, reason and causes, for the cluster as the parent knows it',
  async (_, row) => {
    const causes = [{ reason: 'FieldValueInvalid', field: 'spec.version', message: 'v1.34.0 is older than v1.35.4' }];
    lab.end.says(() => ({
      code: 422,
      body: {
        kind: 'Status',
        apiVersion: 'v1',
        status: 'Failure',
        reason: 'Invalid',
        code: 422,
        message: 'it is invalid',
        details: { name: 'machine-7', causes },
      },
    }));
    const answer = await send(row);
    expect(answer.code).toBe(422);
    expect(JSON.parse(answer.body)).toMatchObject({
      kind: 'Status',
      reason: 'Invalid',
      code: 422,
      message: 'it is invalid',
      details: { group: 'infraops.michael.io', kind: 'clusters', name: 'edge', causes },
    });
  },
);

test.each(named)('%s: what the agent must not say becomes 502', async (_, row) => {
  for (const says of [
    { code: 401, body: { kind: 'Status', message: 'who are you', code: 401 } },
    { code: 302, body: '' },
    { code: 500, body: '<html>' },
    { code: 404, body: { message: 'no Status' } },
  ]) {
    lab.end.says(() => says);
    const answer = await send(row);
    expect([says.code, answer.code, JSON.parse(answer.body).kind]).toEqual([says.code, 502, 'Status']);
  }
});

test.each(['lifecycle', 'restart', 'repair', 'certs', 'audit', 'kubeconfig', 'log', 'metrics'])(
  '%s: methods that have no meaning are 405, an agent without the path is 409',
  async (sub) => {
    const methods = rows.filter((row) => row.sub === sub).map((row) => row.method);
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].filter((one) => !methods.includes(one)))
      expect([method, (await lab.ask(sub, { method })).code]).toEqual([method, 405]);
    expect(lab.end.asked).toEqual([]);
    const message = 'the agent has no /api/v1alpha1/cluster';
    lab.end.says(() => ({
      code: 404,
      body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, reason: 'NotFound', code: 404 },
    }));
    const row = rows.find((one) => one.sub === sub);
    if (!row) throw new Error('no row');
    const answer = await send(row);
    expect([answer.code, JSON.parse(answer.body).message]).toEqual([409, expect.stringContaining('has no lifecycle API')]);
  },
);

test('dryRun=All goes along, in the query or in the body of a DELETE or an action; other values change nothing', async () => {
  const plan = {
    apiVersion: 'v1alpha1',
    kind: 'OperationPlan',
    operation: 'Install',
    actions: [{ step: 'swap', kind: 'command', argv: ['swapoff', '-a'], text: 'off' }],
  };
  lab.end.says(() => ({ body: plan }));
  const asked: [string, string, object?][] = [
    ['POST', 'lifecycle?dryRun=All', SPEC],
    ['PUT', 'lifecycle?dryRun=All', SPEC],
    ['PATCH', 'lifecycle?dryRun=All', SPEC],
    ['DELETE', 'lifecycle?dryRun=All'],
    ['DELETE', 'lifecycle', { kind: 'DeleteOptions', apiVersion: 'v1', dryRun: ['All'] }],
    ['DELETE', 'certs', { dryRun: ['All'] }],
    ['POST', 'restart', { dryRun: ['All'] }],
    ['POST', 'repair?dryRun=All'],
  ];
  for (const [method, sub, body] of asked) {
    const answer = await lab.ask(sub, { method, ...(body && { body: JSON.stringify(body) }) });
    expect([sub, answer.code, JSON.parse(answer.body)]).toEqual([
      sub,
      200,
      { ...plan, apiVersion: 'infraops.michael.io/v1', metadata: { name: 'edge' } },
    ]);
    expect(lab.end.asked.pop()?.path).toMatch(/\?dryRun=All$/);
  }
  for (const [method, sub, body] of [
    ['DELETE', 'lifecycle?dryRun=all'],
    ['DELETE', 'lifecycle?dryRun='],
    ['POST', 'restart?dryRun=true'],
    ['DELETE', 'certs', { dryRun: ['all'] }],
    ['POST', 'restart', { dryRun: ['all'] }],
  ] as [string, string, object?][]) {
    expect([sub, (await lab.ask(sub, { method, ...(body && { body: JSON.stringify(body) }) })).code]).toEqual([sub, 422]);
  }
  expect(lab.end.asked).toEqual([]);
});

test('bodies: YAML without a type, kinds of both APIs; wrong ones never reach the agent', async () => {
  const yaml = 'apiVersion: infraops.michael.io/v1\nkind: ClusterLifecycle\nspec:\n  clusterType: k3s\n';
  const untyped = (body: string) => lab.ask('lifecycle', { method: 'POST', body, headers: { 'content-type': '' } });
  for (const send of [
    untyped,
    (body: string) => lab.ask('lifecycle', { method: 'POST', body, headers: { 'content-type': 'application/yaml' } }),
  ]) {
    const answer = await send(yaml);
    expect([answer.code, answer.body]).toEqual([201, expect.any(String)]);
    expect(JSON.parse(lab.end.asked.pop()?.body ?? '')).toEqual(parse(yaml));
  }
  const post = (body: unknown, type = 'application/json', method = 'POST') =>
    lab.ask('lifecycle', { method, body: typeof body === 'string' ? body : JSON.stringify(body), headers: { 'content-type': type } });
  expect((await post({ apiVersion: 'v1alpha1', kind: 'Cluster', metadata: { name: 'anything' }, ...SPEC })).code).toBe(201);
  lab.end.asked.length = 0;
  for (const [body, code, type, method] of [
    [{ apiVersion: 'v1', kind: 'Pod', ...SPEC }, 400],
    [{ apiVersion: 'v1alpha1', kind: 'ClusterLifecycle', ...SPEC }, 400],
    [{ apiVersion: 'infraops.michael.io/v1', kind: 'ClusterLifecycle', metadata: { name: 'other' }, ...SPEC }, 400],
    ['', 400],
    ['{}', 400],
    ['[]', 400],
    ['{', 400],
    [{ spec: { clusterName: 'x'.repeat(1024 * 1024) } }, 413],
    [SPEC, 415, 'text/plain'],
    [SPEC, 415, 'application/strategic-merge-patch+json', 'PATCH'],
    [[{ op: 'remove', path: '/spec' }], 415, 'application/json-patch+json', 'PATCH'],
    ['', 400, 'application/merge-patch+json', 'PATCH'],
  ] as [unknown, number, string?, string?][]) {
    const answer = await post(body, type, method);
    expect([JSON.stringify(body).slice(0, 60), answer.code]).toEqual([JSON.stringify(body).slice(0, 60), code]);
  }
  const twice = '{"spec":{"clusterType":"kubeadm","clusterType":"k3s"}}';
  expect((await lab.ask('lifecycle?fieldValidation=Strict', { method: 'POST', body: twice })).code).toBe(422);
  expect(lab.end.asked).toEqual([]);
  expect((await lab.ask('lifecycle', { method: 'POST', body: twice })).headers['warning']).toContain('duplicate field');
});

test('kubeconfig: the file itself, and JSON for those who take nothing else; the audit log never has it', async () => {
  lab.end.says(() => ({ body: { contents: KUBECONFIG } }));
  for (const accept of [undefined, 'application/json, */*', 'application/yaml', '*/*']) {
    const answer = await lab.ask('kubeconfig', { headers: accept ? { accept } : {} });
    expect([answer.code, answer.body, answer.headers['content-type'], answer.headers['cache-control']]).toEqual([
      200,
      KUBECONFIG,
      'application/yaml',
      'no-store',
    ]);
  }
  const json = await lab.ask('kubeconfig', { headers: { accept: 'application/json' } });
  expect(JSON.parse(json.body)).toMatchObject({ kind: 'ClusterKubeconfig', metadata: { name: 'edge' }, contents: KUBECONFIG });
  expect(await lab.hub.audit()).not.toContain('kind: Config');
});

test('a Table of the lifecycle', async () => {
  const answer = await lab.ask('lifecycle', { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' } });
  expect(JSON.parse(answer.body)).toMatchObject({
    kind: 'Table',
    rows: [{ cells: ['edge', 'kubeadm', 'v1.36.3', 'Provisioned', 'True', 'Install Succeeded', '', ''] }],
  });
});

test('a cluster that is not known is 404, one that is not let in 409; names that are no names are 400; an id is a name', async () => {
  const at = (name: string) => lab.hub.ask({ path: `/apis/infraops.michael.io/v1/clusters/${name}/lifecycle`, user: 'admin' });
  expect((await at('nobody')).code).toBe(404);
  expect((await at('%2e%2e')).code).toBe(400);
  expect((await at(lab.id)).code).toBe(200);
  expect((await lab.ask('lifecycle/more')).code).toBe(404);
  expect(lab.end.asked).toHaveLength(1);
  const denied = putCluster(lab.hub, 'denied');
  lab.hub.api.put(`${CLUSTERS_API}/clusterregistrationrequests`, {
    metadata: { name: registrationName(denied) },
    spec: { clusterId: denied },
    status: { result: 'Denied' },
  });
  await waitUntil(async () => (await at('denied')).code === 409, 'the denial');
});

test('what changes something, and the kubeconfig, is refused while it cannot be recorded; what only reads is not', () => {
  const table = routes([clusters]);
  for (const { sub, verb } of rows) {
    const info = {
      kind: 'resource',
      path: '',
      group: 'infraops.michael.io',
      version: 'v1',
      resource: 'clusters',
      name: 'edge',
      rest: '',
    } as const;
    const { recorded } = table.find({ ...info, subresource: sub, verb: verb as 'get' });
    expect([sub, verb, recorded]).toEqual([sub, verb, verb !== 'get' || sub === 'kubeconfig']);
  }
});
