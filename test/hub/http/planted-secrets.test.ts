import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type RunningHub, runningHub } from '../../support/running-hub.ts';
import { eventually } from '../auth/eventually.ts';
import { BASE, isReady, MAPS, NODES, node, operations } from './hub-objects.ts';

/** Levels of pino. */
const [TRACE, DEBUG] = [10, 20];

describe('R19: planted secrets', () => {
  test('are in no log, no answer, no Event, no metric, no audit line and no object, at the highest verbosity', async () => {
    const canary = (what: string) => `${what}Canary${randomBytes(12).toString('hex')}`;
    const [apiToken, token, wrongToken, id, secret, session] = ['api', 'user', 'wrong', 'AKIA', 'secret', 'session'].map(canary);
    if (!apiToken || !token || !wrongToken || !id || !secret || !session) throw new Error('six canaries');
    const inQuery = canary('query');
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
      await ask({ method: 'POST', path: `${BASE}/nodes/n3/restart?dryRun=All&reason=${inQuery}`, token });
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
      // The highest verbosity says more than the others: each request, and even the probes. It never says a query, as the audit log does.
      const lines = hub
        .log()
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as object);
      const instance = { method: 'GET', path: `${BASE}/nodes/n1/instance`, user: 'admin' };
      expect(lines).toContainEqual(expect.objectContaining({ level: DEBUG, msg: 'request', ...instance }));
      expect(lines).toContainEqual(expect.objectContaining({ level: TRACE, msg: 'request', path: '/readyz' }));
      expect(hub.log()).not.toContain(inQuery);
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
