import { createServer } from 'node:http';
import { type RequestOptions, request } from 'node:https';
import { createServer as createTCPServer } from 'node:net';
import { expect, test } from 'vitest';
import { clusternetUpstream } from '../../../src/hub/sockets/clusternet.ts';
import type { SocketCluster } from '../../../src/hub/sockets/clusters.ts';
import { parseTargetPattern } from '../../../src/tunnel/target.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { times } from '../../support/counts.ts';
import { type SocketPair, socketPair } from '../../support/socket-pair.ts';
import { agentEnd, ask, countConnections, failure, fakeNames, headOf, listen, rawStream } from '../../tunnel/agent-end.ts';
import { hub as clusternetHub } from '../../tunnel/remotedialer/ends.ts';

const clean = cleanUp();

/** Forms of the machine itself, its neighbours on the link and its cloud's metadata. */
const SPECIAL = (port: number): string[] => [
  '169.254.169.254',
  '169.254.169.254:80',
  '[::ffff:169.254.169.254]',
  '[::ffff:a9fe:a9fe]:80',
  '[0:0:0:0:0:FFFF:A9FE:A9FE]',
  '[64:ff9b::a9fe:a9fe]',
  '[2002:a9fe:a9fe::1]',
  '[fd00:ec2::254]',
  '[fe80::1]',
  '100.100.100.200',
  'metadata.google.internal',
  'Metadata.Google.Internal',
  `127.0.0.1:${port}`,
  `127.1.2.3:${port}`,
  `0.0.0.0:${port}`,
  `[::1]:${port}`,
  `[::]:${port}`,
  `[::ffff:127.0.0.1]:${port}`,
  `[::ffff:7f00:1]:${port}`,
  `localhost:${port}`,
  `LOCALHOST:${port}`,
  `a.localhost:${port}`,
];
/** Forms that two parsers could read differently. */
const MALFORMED = (port: number): string[] => [
  `2130706433:${port}`,
  `0x7f000001:${port}`,
  `0x7f.1:${port}`,
  `017700000001:${port}`,
  `0177.0.0.1:${port}`,
  `127.1:${port}`,
  `0:${port}`,
  `localhost.:${port}`,
  `127.0.0.1.:${port}`,
  `user@127.0.0.1:${port}`,
  `user:password@127.0.0.1:${port}`,
  `allowed.svc@127.0.0.1:${port}`,
  `127.0.0.1:${port}@allowed.svc`,
  `[fe80::1%25lo]:${port}`,
  `[::1%lo]:${port}`,
  '127.0.0.1:0',
  '127.0.0.1:65536',
  `127.0.0.1:0${port}`,
  '127.0.0.1:',
  `127.0.0.1:${port}:80`,
  `127%2e0%2e0%2e1:${port}`,
  `127.0.0.1%3a${port}`,
  `127.0.0.1%00.svc:${port}`,
  `127.0.0.1%2f.svc:${port}`,
  `127%E3%80%820%E3%80%820%E3%80%821:${port}`,
  `[::1:${port}`,
  `::1:${port}`,
  `[127.0.0.1]:${port}`,
  `127.0.0.1\\@allowed.svc:${port}`,
  `-a.svc:${port}`,
  `a..svc:${port}`,
  `127.0.0.1;.svc:${port}`,
];
const ALLOWED = ['*.svc', '10.0.0.0/8', '[fd00:1::/32]'].map(parseTargetPattern);

/** A listener on every address of the machine: whatever form of loopback were dialled would arrive here. */
async function trap() {
  const server = createServer((_request, response) => response.end('reached'));
  const connections = countConnections(clean, server);
  return { port: await listen(server, '::'), connections };
}

function hubAnswer(to: SocketPair, options: RequestOptions): Promise<{ code: number; agent: boolean; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port: to.hubPort, ca: to.hubCA, agent: false, ...options }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => resolve({ code: response.statusCode ?? 0, agent: response.headers['x-agent'] !== undefined, body }));
    });
    sent.on('error', reject).end();
  });
}

test('R22: malformed and special targets are refused with 403 through the hub, and nothing is dialled', async () => {
  const { port, connections } = await trap();
  let planned = 0;
  const to = await socketPair({
    child: (_got, response) => response.end('child'),
    upstream: { allowTargets: ALLOWED, targetCA: () => void planned++ },
  });
  clean.after(() => to.close());
  const base = to.direct('').replace('/direct', '');
  for (const target of [...SPECIAL(port), ...MALFORMED(port)]) {
    for (const form of [`${base}/http/${target}/x`, `${base}/https/${target}`, `${base.replace('/proxy', '')}/http/${target}/x`]) {
      const { code, body } = await hubAnswer(to, { path: form });
      expect({ form, code }).toEqual({ form, code: 403 });
      expect(JSON.parse(body)).toMatchObject({ kind: 'Status', reason: 'Forbidden', message: expect.stringContaining('is not allowed') });
    }
  }
  expect(connections.total()).toBe(0);
  expect(planned).toBe(0);
});

test("R22: names that mean something in the tunnel are no targets: the agent's own API is not reached as a host", async () => {
  const to = await socketPair({ child: (_got, response) => response.end('child') });
  clean.after(() => to.close());
  const base = to.direct('').replace('/direct', '');
  for (const scheme of ['http', 'https'])
    for (const name of ['agent', 'Agent', 'AGENT', 'direct', 'Direct'])
      for (const path of [`${base}/${scheme}/${name}/x`, `${base.replace('/proxy', '')}/${scheme}/${name}/x`])
        expect(await hubAnswer(to, { path })).toMatchObject({ code: 403, agent: false });
  expect(await hubAnswer(to, { path: to.direct('/x') })).toMatchObject({ code: 200, body: 'child' });
});

test('R22: the agent refuses the same with 403 when they come straight over the tunnel', async () => {
  const { port, connections } = await trap();
  const { tunnel, upstream } = await agentEnd(clean, { allowTargets: ALLOWED });
  const targets = [...SPECIAL(port), ...MALFORMED(port)];
  for (const authority of targets) {
    for (const scheme of ['http', 'https'] as const) {
      const refused = await failure(ask(upstream, headOf(authority, { scheme })));
      // HTTP/2 itself knows no user in an authority, and resets that stream alone.
      const code = /[@\\]/.test(authority) ? 503 : 403;
      expect({ authority, code: refused.code }).toEqual({ authority, code });
    }
  }
  // Bytes that no hub would send.
  for (const authority of [`127。0。0。1:${port}`, `127.0.0.1\t:${port}`, ` 127.0.0.1:${port}`, '']) {
    const answer = await rawStream(tunnel, [
      ':method',
      'GET',
      ':scheme',
      'http',
      ':authority',
      authority,
      ':path',
      '/',
      'fairlead-user',
      'jane',
    ]).catch(() => ({ code: 403 }));
    expect({ authority, code: answer.code }).toEqual({ authority, code: 403 });
  }
  // Without any of the headers that name the caller nothing is allowed.
  expect(await rawStream(tunnel, { ':authority': `127.0.0.1:${port}`, ':scheme': 'http', ':path': '/' })).toMatchObject({ code: 403 });
  expect(connections.total()).toBe(0);
  // The same listener is reached as soon as it is allowed: the trap works.
  const open = await agentEnd(clean, { allowTargets: [parseTargetPattern(`127.0.0.1:${port}`)] });
  expect(await ask(open.upstream, headOf(`127.0.0.1:${port}`))).toMatchObject({ code: 200, body: 'reached' });
  expect(connections.total()).toBe(1);
});

test('R22: before a clusternet agent, which dials whatever it is told, the hub refuses them', async () => {
  const { port } = await trap();
  const { ws, session } = await (await clusternetHub(clean)).agent();
  const dialled: string[] = [];
  ws.on('message', (data: Buffer) => dialled.push(data.toString('latin1')));
  const cluster: SocketCluster = {
    id: 'c',
    name: 'edge',
    namespace: 'edge',
    apiserverURL: undefined,
    childCA: undefined,
    childInsecure: false,
    credentialIDs: undefined,
  };
  const upstream = clusternetUpstream(session, () => cluster);
  for (const target of [...SPECIAL(port), ...MALFORMED(port)])
    expect({ target, code: (await failure(ask(upstream, headOf(target)))).code }).toEqual({ target, code: 403 });
  // The order of messages tells: had one of those been dialled, it would come before this.
  ask(upstream, headOf('10.0.0.1:80')).catch(() => undefined);
  await expect.poll(() => dialled.filter((message) => message.includes('tcp/'))).toHaveLength(1);
  expect(dialled.find((message) => message.includes('tcp/'))).toContain('tcp/10.0.0.1:80');
});

test('R23: a name that changes its mind between check and dial leads only to the address that was checked', async () => {
  const [good, bad] = [createServer((_request, response) => response.setHeader('connection', 'close').end('good')), createTCPServer()];
  const [goodOnes, badOnes] = [countConnections(clean, good), countConnections(clean, bad)];
  const port = await listen(good, '127.0.0.2');
  await listen(bad, '127.0.0.3', port);
  let flip = 0;
  // Each look shows another address; some show both, in either order.
  const answers = [['127.0.0.2'], ['127.0.0.3'], ['127.0.0.3', '127.0.0.2'], ['127.0.0.2', '127.0.0.3']];
  const names = fakeNames(clean, () => answers[flip++ % answers.length] ?? []);
  const { upstream } = await agentEnd(clean, { allowTargets: [parseTargetPattern('*.rebind.test'), parseTargetPattern('127.0.0.2')] });
  let [reached, refused] = [0, 0];
  const count = times(100, 2_000);
  for (let at = 0; at < count; at++) {
    const before = names.asked.length;
    const checked = answers[flip % answers.length] ?? [];
    const got = await ask(upstream, headOf(`n${at % 7}.rebind.test:${port}`));
    // One look for each request: the second would have seen another address.
    expect(names.asked.length - before).toBe(1);
    if (checked.includes('127.0.0.2')) {
      expect(got).toMatchObject({ code: 200, body: 'good' });
      reached++;
    } else {
      expect(got.code).toBe(403);
      refused++;
    }
  }
  expect({ reached, refused }).toEqual({ reached: (count * 3) / 4, refused: count / 4 });
  expect(goodOnes.total()).toBe(reached);
  expect(badOnes.total()).toBe(0);
});
