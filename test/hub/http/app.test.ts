import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type RunningHub, runningHub } from '../../support/running-hub.ts';
import { eventually } from '../auth/eventually.ts';
import { BASE, isReady, MAPS, NODES, node, operations } from './hub-objects.ts';

describe('with a hub', () => {
  let hub: RunningHub;
  beforeAll(async () => {
    hub = await runningHub({ args: ['--leader-elect-resource-name=never'], tokens: { 'token-of-eve': 'eve' } });
    for (let at = 0; at < 12; at++) hub.api.put(NODES, node(`n${at}`));
    await eventually('readiness', () => isReady(hub), 10_000);
  });
  afterAll(() => hub.close());

  const HEALTH = ['/healthz', '/livez', '/readyz', '/healthz/ping', '/livez/ping', '/readyz/ping'];

  async function allPaths(): Promise<{ method: string; path: string }[]> {
    const index = JSON.parse((await hub.ask({ path: '/openapi/v3', user: 'admin' })).body) as {
      paths: Record<string, { serverRelativeURL: string }>;
    };
    const found: { method: string; path: string }[] = [];
    for (const { serverRelativeURL } of Object.values(index.paths)) {
      const document = JSON.parse((await hub.ask({ path: serverRelativeURL, user: 'admin' })).body) as {
        paths: Record<string, Record<string, unknown>>;
      };
      for (const [path, item] of Object.entries(document.paths))
        for (const method of Object.keys(item).filter((key) => /^(get|post|put|patch|delete)$/.test(key)))
          found.push({ method: method.toUpperCase(), path: path.replaceAll(/\{[^}]+\}/g, 'n1') });
    }
    return found;
  }

  test('R15: every path of OpenAPI and of the router answers 401 or 403 to nobody, except health', async () => {
    const documented = await allPaths();
    expect(documented.length).toBeGreaterThanOrEqual(10);
    expect(documented).toContainEqual({ method: 'POST', path: `${BASE}/nodes/n1/restart` });
    const known = [
      '/',
      '/api',
      '/apis',
      '/apis/infraops.michael.io',
      BASE,
      '/openapi/v2',
      '/openapi/v3',
      '/version',
      '/metrics',
      '/debug/pprof',
      '/x',
    ];
    const others = known.flatMap((path) => ['GET', 'POST', 'DELETE', 'OPTIONS', 'HEAD'].map((method) => ({ method, path })));
    const resources = [
      'nodes',
      'nodes/n1',
      'nodeoperations',
      'nodeoperations/o',
      'nodes/n1/restart',
      'nodes/n1/log?follow=true',
      'nodes?watch=true',
    ];
    const routed = resources.flatMap((path) =>
      ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].map((method) => ({ method, path: `${BASE}/${path}` })),
    );
    const spoofed = { 'x-remote-user': 'admin', 'x-remote-group': 'system:masters' };
    const before = hub.api.count('POST', MAPS);
    for (const { method, path } of [...documented, ...others, ...routed]) {
      for (const headers of [{}, spoofed, { authorization: 'Bearer nobody' }])
        expect([method, path, (await hub.ask({ method, path, headers })).code]).toEqual([method, path, 401]);
    }
    for (const path of HEALTH) expect([path, (await hub.ask({ path })).code]).toEqual([path, 200]);
    expect(hub.api.count('POST', MAPS)).toBe(before);
  });

  test('R15: somebody known without any right gets 403 everywhere but at the documents', async () => {
    for (const { method, path } of await allPaths()) {
      if (!path.startsWith(`${BASE}/`)) continue;
      expect([method, path, (await hub.ask({ method, path, token: 'token-of-eve' })).code]).toEqual([method, path, 403]);
    }
    expect((await hub.ask({ path: '/metrics', token: 'token-of-eve' })).code).toBe(403);
    expect((await hub.ask({ path: '/apis', token: 'token-of-eve' })).code).toBe(200);
  });

  test('R5: an identity that cannot be read or checked is refused, and nothing is done', async () => {
    const restart = { method: 'POST', path: `${BASE}/nodes/n1/restart`, body: '{}' };
    const count = operations(hub).length;
    // The front proxy names nobody.
    expect((await hub.ask({ ...restart, user: '' })).code).toBe(401);
    const failures: (() => () => void)[] = [
      () => hub.api.fault(({ path }) => (path.endsWith('reviews') ? { code: 500 } : undefined)),
      () => hub.api.fault(({ path }) => (path.endsWith('reviews') ? { code: 403 } : undefined)),
      () => hub.api.fault(({ path }) => (path.endsWith('reviews') ? { code: 201, body: 'no JSON' } : undefined)),
      () => hub.api.fault(({ path }) => (path.endsWith('reviews') ? { code: 201, body: {} } : undefined)),
      () =>
        hub.api.fault(({ path }) =>
          path.endsWith('reviews') ? { code: 201, body: { kind: 'SubjectAccessReview', status: { allowed: 'yes' } } } : undefined,
        ),
      () => hub.api.fault(({ path }) => (path.endsWith('reviews') ? 'refuse' : undefined)),
      () => hub.api.fault(({ path }) => (path.endsWith('reviews') ? 'lose' : undefined)),
    ];
    for (const [at, fail] of failures.entries()) {
      const back = fail();
      // A user of its own each time: answers are kept for a while.
      expect([at, (await hub.ask({ ...restart, user: `admin-${at}` })).code]).toEqual([at, 503]);
      expect([at, (await hub.ask({ ...restart, token: `unknown-${at}` })).code]).toEqual([at, 503]);
      back();
    }
    const groups = Array.from({ length: 9_000 }, (_, at) => `group-${at}-${'x'.repeat(80)}`);
    expect((await hub.ask({ ...restart, user: 'many-groups', groups })).code).toBe(403);
    expect((await hub.ask({ ...restart, user: 'ädmin\u00ff' })).code).toBe(403);
    expect(operations(hub)).toHaveLength(count);
  });

  test('R12: readyz of the hub names the review that fails, asks only while one does, and is well again after it', {
    timeout: 60_000,
  }, async () => {
    const readyz = async () => (await hub.ask({ path: '/readyz?verbose' })).body;
    await eventually('readiness', () => isReady(hub), 20_000);
    for (const [kind, check] of [
      ['tokenreviews', 'authentication'],
      ['subjectaccessreviews', 'authorization'],
    ] as const) {
      const back = hub.api.fault(({ path }) => (path.endsWith(`/${kind}`) ? { code: 500 } : undefined));
      // Both callers are new, or an answer that is kept would do.
      expect((await hub.ask({ path: `${BASE}/nodes`, token: `token-for-${check}` })).code).toBe(kind === 'tokenreviews' ? 503 : 401);
      expect((await hub.ask({ path: `${BASE}/nodes`, user: `user-for-${check}` })).code).toBe(kind === 'tokenreviews' ? 403 : 503);
      await eventually(
        'the check',
        async () => `${(await readyz()).match(/^\[-\].*/gm)}` === `[-]${check} failed: reason withheld`,
        15_000,
      );
      back();
    }
    await eventually('readiness', () => isReady(hub), 15_000);
    // While all is well nobody asks about a token.
    expect(hub.api.seen.filter(({ path }) => path.endsWith('/tokenreviews')).at(-1)?.body).toMatchObject({
      spec: { token: 'token-for-authorization' },
    });
  });

  test('R32: 1,000 groups of 100 bytes pass; more than a mebibyte of headers is 431, and the process lives on', async () => {
    const groups = (count: number) => Array.from({ length: count }, (_, at) => String(at).padEnd(100, 'g'));
    const path = `${BASE}/nodes`;
    expect((await hub.ask({ path, user: 'admin', groups: groups(1_000) })).code).toBe(200);
    const asked = hub.ask({ path, user: 'admin', groups: groups(10_500) });
    expect(
      await asked.then(
        ({ code }) => code,
        () => 'cut',
      ),
    ).toBe(431);
    expect(await isReady(hub)).toBe(true);
  });

  test('a request through the whole chain: operation, audit line, metrics, and the Audit-ID in all of them', async () => {
    const auditID = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee';
    const answer = await hub.ask({
      method: 'POST',
      path: `${BASE}/nodes/n2/restart?reason=why`,
      user: 'admin',
      headers: { 'audit-id': auditID },
    });
    expect(answer.code).toBe(201);
    // The front proxy answers its own id by itself.
    expect(answer.headers['audit-id']).toBeUndefined();
    const operation = JSON.parse(answer.body) as { metadata: { name: string }; spec: object };
    expect(operation.spec).toMatchObject({ nodeName: 'n2', action: 'Restart', reason: 'why', requestedBy: { username: 'admin' }, auditID });
    await eventually('the audit line', async () => (await hub.audit()).includes(auditID));
    const metrics = (await hub.ask({ path: '/metrics', user: 'admin' })).body;
    expect(metrics).toMatch(
      /fairlead_hub_requests_total\{verb="create",group="infraops.michael.io",resource="nodes",subresource="restart",code="201"\}/,
    );
  });

  test('regression: 405 did not say which methods the path takes, and OPTIONS on a resource was 400', async () => {
    const rows: [string, string, string | undefined][] = [
      ['OPTIONS', `${BASE}/nodes`, 'GET, HEAD'],
      ['OPTIONS', `${BASE}/nodes/n1/restart`, 'POST'],
      ['TRACE', `${BASE}/nodes/n1`, 'GET, HEAD'],
      ['DELETE', `${BASE}/nodes`, 'GET, HEAD'],
      ['GET', `${BASE}/nodes/n1/restart`, 'POST'],
      ['PUT', `${BASE}/nodes/n1/log`, 'GET, HEAD'],
      ['OPTIONS', `${BASE}/nothing`, undefined],
      ['POST', '/openapi/v2', 'GET, HEAD'],
    ];
    for (const [method, path, allow] of rows) {
      const answer = await hub.ask({ method, path, user: 'admin' });
      expect([method, path, answer.code, answer.headers['allow']]).toEqual([method, path, 405, allow]);
      expect(JSON.parse(answer.body)).toMatchObject({ kind: 'Status', code: 405, reason: 'MethodNotAllowed' });
    }
  });

  test('regression: the node of another replica was refused or let through by which replica was asked', async () => {
    hub.api.put('/apis/discovery.k8s.io/v1/namespaces/fairlead-system/endpointslices', {
      metadata: { name: 'hub', labels: { 'kubernetes.io/service-name': 'fairlead-hub' } },
      addressType: 'IPv4',
      endpoints: [{ addresses: ['192.0.2.7'], conditions: { ready: true, serving: true }, nodeName: 'n7' }],
      ports: [],
    });
    const answer = async () => (await hub.ask({ method: 'POST', path: `${BASE}/nodes/n7/restart?dryRun=All`, user: 'admin' })).body;
    await eventually('the guard', async () => (await answer()).includes('the hub runs on this node'));
  });

  test('every error is a Status with its reason, and none is a redirect', async () => {
    const rows: [string, string, number, string][] = [
      ['GET', `${BASE}/nodes/none`, 404, 'NotFound'],
      ['GET', `${BASE}/nothing`, 404, 'NotFound'],
      ['GET', '/apis/other.group/v1/x', 404, 'NotFound'],
      ['GET', '/nothing/', 404, 'NotFound'],
      ['GET', `//${BASE}/nodes`, 404, 'NotFound'],
      ['DELETE', `${BASE}/nodes/n1`, 405, 'MethodNotAllowed'],
      ['GET', `${BASE}/nodes/n1%2frestart`, 400, 'BadRequest'],
      ['POST', `${BASE}/nodes/n1/restart?force=maybe`, 400, 'BadRequest'],
      ['GET', `${BASE}/nodes?fieldSelector=a%3Db`, 400, 'BadRequest'],
    ];
    for (const [method, path, code, reason] of rows) {
      const answer = await hub.ask({ method, path, user: 'admin' });
      expect([path, answer.code, JSON.parse(answer.body)]).toEqual([path, code, expect.objectContaining({ kind: 'Status', code, reason })]);
    }
  });
});

test('regression: a watch that met a hub on its way down got 500, and no answer told the client to go', async () => {
  const hub = await runningHub({ args: ['--leader-elect-resource-name=never', '--shutdown-timeout=10s'] });
  let closed: Promise<void> | undefined;
  try {
    hub.api.put(NODES, node('n0'));
    await eventually('readiness', () => isReady(hub), 10_000);
    hub.api.fault(({ path }) => (path.endsWith('subjectaccessreviews') ? { delay: 500 } : undefined));
    const reviews = hub.api.count('POST', 'subjectaccessreviews');
    const keep = { user: 'admin', headers: { connection: 'keep-alive' } };
    const watch = hub.ask({ path: `${BASE}/nodes?watch=true`, ...keep });
    const list = hub.ask({ path: `${BASE}/nodes`, ...keep });
    await eventually('both are being authorised', () => hub.api.count('POST', 'subjectaccessreviews') >= reviews + 2);
    closed = hub.close();
    const [watched, listed] = [await watch, await list];
    expect(watched.code).toBe(503);
    expect(JSON.parse(watched.body)).toMatchObject({ reason: 'ServiceUnavailable', message: expect.stringContaining('shutting down') });
    expect(listed.code).toBe(200);
    for (const { headers } of [watched, listed]) expect(headers['connection']).toBe('close');
  } finally {
    await (closed ?? hub.close());
  }
});

describe('R6: system:masters', () => {
  test('no object that is shipped grants it, binds it or carries it', async () => {
    const files = (await readdir('deploy', { recursive: true })).filter((name) => name.endsWith('.yaml'));
    expect(files.length).toBeGreaterThan(10);
    for (const name of [...files.map((file) => join('deploy', file)), 'e2e/rbac.yaml']) {
      const text = await readFile(name, 'utf8').catch(() => '');
      for (const document of parseAllDocuments(text))
        expect([name, JSON.stringify(document.toJS())]).toEqual([name, expect.not.stringContaining('system:masters')]);
    }
  });
});
