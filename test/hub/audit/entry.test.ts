import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { auditSubject } from '../../../src/hub/audit/subject.ts';
import { call, collected, serve } from './audited-server.ts';
import { linesOf, logOf } from './entries.ts';
import { folder } from './folder.ts';

test('the shape of a line is that of an Event of audit.k8s.io/v1', async (context) => {
  const { entries, write } = collected();
  const port = await serve(
    write,
    (request, response) => {
      const subject = auditSubject(request);
      subject.user = { name: 'ann', uid: '7', groups: ['operators'], extra: { token: ['not shown'] } };
      subject.info = {
        kind: 'resource',
        path: '/',
        verb: 'create',
        group: 'infraops.michael.io',
        version: 'v1',
        resource: 'nodes',
        name: 'n1',
        subresource: 'restart',
        rest: '',
      };
      subject.annotations = { 'infraops.michael.io/operation': 'n1-x' };
      subject.viaFrontProxy = true;
      response.writeHead(201).end();
    },
    context,
  );
  await call(port, {
    method: 'POST',
    path: '/apis/infraops.michael.io/v1/nodes/n1/restart?dryRun=All',
    headers: { 'audit-id': 'kube-1', 'user-agent': 'kubectl/v1.36.3', 'x-forwarded-for': '203.0.113.9, 192.0.2.7' },
  });
  expect(entries).toEqual([
    {
      kind: 'Event',
      apiVersion: 'audit.k8s.io/v1',
      level: 'Metadata',
      auditID: 'kube-1',
      stage: 'ResponseComplete',
      requestURI: '/apis/infraops.michael.io/v1/nodes/n1/restart?dryRun=All',
      verb: 'create',
      user: { username: 'ann', uid: '7', groups: ['operators'] },
      sourceIPs: ['192.0.2.7', '127.0.0.1'],
      userAgent: 'kubectl/v1.36.3',
      objectRef: { resource: 'nodes', subresource: 'restart', name: 'n1', apiGroup: 'infraops.michael.io', apiVersion: 'v1' },
      responseStatus: { code: 201 },
      requestReceivedTimestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/) as string,
      stageTimestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/) as string,
      annotations: { 'infraops.michael.io/operation': 'n1-x' },
    },
  ]);
});

test('R28: a forged X-Forwarded-For changes nothing without the front proxy, and only its last address counts with it', async (context) => {
  const { entries, write } = collected();
  let viaFrontProxy = false;
  const port = await serve(
    write,
    (request, response) => {
      auditSubject(request).viaFrontProxy = viaFrontProxy;
      response.end();
    },
    context,
  );
  const ask = async (value: string) => {
    await call(port, { path: '/x', headers: { 'x-forwarded-for': value, 'x-real-ip': '203.0.113.5', forwarded: 'for=203.0.113.6' } });
    return entries.at(-1)?.sourceIPs;
  };
  expect(await ask('203.0.113.9')).toEqual(['127.0.0.1']);
  viaFrontProxy = true;
  expect(await ask('203.0.113.9, 2001:db8::1')).toEqual(['2001:db8::1', '127.0.0.1']);
  expect(await ask('203.0.113.9, not an address')).toEqual(['127.0.0.1']);
});

test('R19: of 12 planted canaries none is in the log; a line is bounded', async (context) => {
  const path = join(await folder(context), 'audit.log');
  const log = logOf(path, context);
  const canaries: string[] = [];
  const canary = () => {
    const text = `canary-${randomUUID()}`;
    canaries.push(text);
    return text;
  };
  const port = await serve(
    log.write,
    (request, response) => {
      auditSubject(request).user = { name: 'ann', uid: '', groups: [], extra: { token: [canary()], 'client-key': [canary()] } };
      request.resume().on('end', () => response.writeHead(500, { 'x-answer': canary() }).end(canary()));
    },
    context,
  );
  const long = 'y'.repeat(12_000);
  await call(port, {
    method: 'POST',
    path: `/x?reason=${long}`,
    headers: {
      authorization: `Bearer ${canary()}`,
      'proxy-authorization': `Basic ${canary()}`,
      cookie: canary(),
      'sec-websocket-protocol': `base64url.bearer.authorization.k8s.io.${canary()}`,
      'x-remote-extra-token': canary(),
      'impersonate-extra-key': canary(),
      // Not an Audit-ID as kube-apiserver has them.
      'audit-id': `${canary()}\t${canary()}`,
    },
    body: canary(),
  });
  await call(port, { path: `http://ann:${canary()}@127.0.0.1/y`, headers: { 'user-agent': 'z'.repeat(3_000) } });
  await log.close();
  const text = await readFile(path, 'utf8');
  expect(canaries.length).toBeGreaterThanOrEqual(12);
  expect(canaries.filter((one) => text.includes(one))).toEqual([]);
  const events = (await linesOf(path)).filter((line) => line.kind === 'Event');
  expect(events).toHaveLength(2);
  expect(events[0]?.requestURI?.length).toBeLessThan(8_300);
  expect(events[0]?.requestURI).toMatch(/^\/x\?reason=yyy/);
  expect(events[1]?.requestURI).toBe('http://127.0.0.1/y');
  expect(events[1]?.userAgent?.length).toBeLessThan(1_100);
});
