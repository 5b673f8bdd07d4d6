import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type RunningHub, runningHub } from '../../support/running-hub.ts';
import { eventually } from '../auth/eventually.ts';

const BASE = '/apis/infraops.michael.io/v1';
const NODES = '/api/v1/nodes';
const MAPS = '/api/v1/namespaces/fairlead-system/configmaps';
const node = (name: string, providerID = `aws:///us-east-1a/i-${name.padStart(17, '0').replaceAll(/[^0-9a-f]/g, '0')}`) => ({
  metadata: { name },
  spec: { providerID },
  status: { conditions: [{ type: 'Ready', status: 'True' }], nodeInfo: { bootID: 'boot-1' } },
});
const operations = (hub: RunningHub) =>
  hub.api.all(MAPS).filter(({ metadata }) => metadata.labels?.['infraops.michael.io/object'] === 'operation');
const isReady = async (hub: RunningHub) => (await hub.ask({ path: '/readyz' })).code === 200;

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

describe('R19: planted secrets', () => {
  test('are in no log, no answer, no Event, no metric, no audit line and no object, at the highest verbosity', async () => {
    const canary = (what: string) => `${what}Canary${randomBytes(12).toString('hex')}`;
    const [apiToken, token, wrongToken, id, secret, session] = ['api', 'user', 'wrong', 'AKIA', 'secret', 'session'].map(canary);
    if (!apiToken || !token || !wrongToken || !id || !secret || !session) throw new Error('six canaries');
    // A cloud that repeats what it was sent, as some do in their errors.
    const cloud = createServer((incoming, response) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('end', () => {
        const echo = `${incoming.headers.authorization} ${incoming.headers['x-amz-security-token']} ${Buffer.concat(chunks)}`;
        response.writeHead(403, { 'content-type': 'text/xml' });
        response.end(
          `<Response><Errors><Error><Code>AuthFailure</Code><Message>bad ${echo.replaceAll('<', '')}</Message></Error></Errors></Response>`,
        );
      });
    });
    await new Promise<void>((resolve) => cloud.listen(0, '127.0.0.1', resolve));
    const hub = await runningHub({
      apiToken,
      tokens: { [token]: 'admin' },
      args: ['-v=4', '--unanswered-call-wait=1s'],
      async prepare(api, folder) {
        for (let at = 0; at < 12; at++) api.put(NODES, node(`n${at}`));
        const keys = { id, secret, token: session };
        for (const [name, value] of Object.entries(keys)) await writeFile(join(folder, name), value);
        const endpoint = `http://127.0.0.1:${(cloud.address() as AddressInfo).port}`;
        const accounts = {
          accounts: [{ name: 'a', cloud: 'aws', endpoint, credentials: { files: { id: 'id', secret: 'secret', token: 'token' } } }],
        };
        await writeFile(join(folder, 'clouds.yaml'), JSON.stringify(accounts));
        return [`--cloud-config=${join(folder, 'clouds.yaml')}`];
      },
    });
    try {
      await eventually('readiness', () => isReady(hub), 10_000);
      const answers: string[] = [];
      const ask = async (request: Parameters<RunningHub['ask']>[0]) => {
        const answer = await hub.ask(request).catch((error: Error) => ({ code: 0, headers: {}, body: error.message }));
        answers.push(JSON.stringify(answer));
        return answer;
      };
      for (const path of [
        '/version',
        `${BASE}/nodes`,
        `${BASE}/nodes/n1/instance`,
        `${BASE}/nodes/n1/restart`,
        '/nothing',
        `${BASE}/nodes/%zz`,
      ]) {
        for (const method of ['GET', 'POST']) {
          await ask({ method, path, token });
          await ask({ method, path, token: wrongToken });
          await ask({ method, path, token, body: '{' });
        }
      }
      await ask({ method: 'POST', path: `${BASE}/nodes/n3/restart?dryRun=All`, token });
      // The API server in trouble, on every path the hub uses.
      for (const fault of [{ code: 500, body: { kind: 'Status', message: 'trouble' } }, 'refuse', { code: 403 }] as const) {
        const back = hub.api.fault(({ path, query }) => (path.endsWith('reviews') || query.get('watch') ? undefined : fault));
        await ask({ path: `${BASE}/nodes?limit=1`, token });
        await ask({ path: `${BASE}/nodeoperations`, token });
        await ask({ method: 'POST', path: `${BASE}/nodes/n4/restart?force=true`, token });
        back();
      }
      await eventually(
        'an operation that the cloud refused',
        () => operations(hub).some((map) => map.data?.['status']?.includes('AuthFailure')),
        15_000,
      );
      await eventually('its Event', () => hub.api.all('/apis/events.k8s.io/v1/namespaces/default/events').length >= 2, 10_000);
      const everything = [
        hub.log(),
        await hub.audit(),
        ...answers,
        (await ask({ path: '/metrics', token })).body,
        JSON.stringify(hub.api.all('/apis/events.k8s.io/v1/namespaces/default/events')),
        JSON.stringify(hub.api.all(MAPS)),
      ].join('\n');
      expect(everything).toContain('AuthFailure');
      for (const planted of [apiToken, token, wrongToken, id, secret, session]) {
        expect(everything.includes(planted)).toBe(false);
        expect(everything.includes(Buffer.from(planted).toString('base64').slice(0, 24))).toBe(false);
      }
      // They were all really in use.
      expect(hub.api.seen.some(({ headers }) => headers.authorization === `Bearer ${apiToken}`)).toBe(true);
      expect(JSON.stringify(hub.api.seen.map(({ body }) => body))).toContain(wrongToken);
    } finally {
      await hub.close();
      cloud.closeAllConnections();
      await new Promise((resolve) => cloud.close(resolve));
    }
  }, 60_000);
});
