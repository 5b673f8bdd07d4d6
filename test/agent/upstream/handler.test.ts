import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { createServer as createPlain } from 'node:http';
import { createServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ChildConnection, ConnectionTried, RequestAnswered } from '../../../src/agent/upstream/settings.ts';
import { targetCAFile } from '../../../src/agent/upstream/target-ca.ts';
import { issueCertificate } from '../../../src/hub/certificates/x509.ts';
import { type Caller, encodeCaller } from '../../../src/tunnel/caller.ts';
import { parseTargetPattern } from '../../../src/tunnel/target.ts';
import { makeCa, makeClient, makeServer } from '../../hub/auth/pki.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { agentEnd, ask, countConnections, failure, fakeNames, headOf, jane, listen, rawStream } from '../../tunnel/agent-end.ts';

const clean = cleanUp();
const ca = makeCa('child-ca');
const WHO = /^(authorization|impersonate-|x-remote-|fairlead-|proxy-authorization)/;
const who = ({ rawHeaders }: IncomingMessage) => rawHeaders.filter((_, at, all) => WHO.test(all[at - (at % 2)]?.toLowerCase() ?? ''));

/** A child that asks for a client certificate and keeps what it was asked. */
async function child(more: Partial<ChildConnection> = {}) {
  const pair = makeServer(ca);
  const seen: IncomingMessage[] = [];
  const server = createServer(
    { cert: pair.cert, key: pair.key, ca: ca.cert, requestCert: true, rejectUnauthorized: false },
    (got, response) => {
      seen.push(got);
      response.end(
        `child as ${'getPeerCertificate' in got.socket ? (got.socket as import('node:tls').TLSSocket).getPeerCertificate().subject?.CN : ''}`,
      );
    },
  );
  countConnections(clean, server);
  const port = await listen(server);
  const connection: ChildConnection = {
    server: `https://127.0.0.1:${port}`,
    ca: ca.cert,
    authorization: async () => 'Bearer agent',
    ...more,
  };
  return { port, seen, connection };
}

test('the own API server is asked as the caller, with the credential of the agent and nothing that came along', async () => {
  const { seen, connection, port } = await child();
  const { upstream } = await agentEnd(clean, { child: () => connection });
  const smuggled = [
    'authorization',
    'Bearer mine',
    'impersonate-user',
    'admin',
    'impersonate-group',
    'system:masters',
    'x-remote-user',
    'root',
  ];
  const caller: Caller = { ...jane, groups: ['dev', 'system:masters'], extra: { a: ['b'] } };
  await ask(upstream, headOf('direct', { scheme: 'https', path: '/x?y', headers: [...smuggled, 'accept', '*/*'] }, caller));
  const expected = ['authorization', 'Bearer agent', 'impersonate-user', 'jane', 'impersonate-group', 'dev', 'impersonate-extra-a', 'b'];
  expect(seen.map(who)).toEqual([expected]);
  expect(seen[0]?.headers).toMatchObject({ host: `127.0.0.1:${port}`, accept: '*/*' });
  // By its address it is the same server, with the same credentials, and needs no permission.
  await ask(upstream, headOf(`127.0.0.1:${port}`, { scheme: 'https', headers: smuggled }, caller));
  expect(seen.map(who)).toEqual([expected, expected]);
  // Its plain port is not.
  expect((await ask(upstream, headOf(`127.0.0.1:${port}`))).code).toBe(403);
});

test("a credential of the child that the caller brought is used instead of the agent's, without impersonation", async () => {
  const { seen, connection } = await child();
  const { upstream } = await agentEnd(clean, { child: () => connection });
  const mine = makeClient(ca, 'mine');
  await ask(upstream, headOf('direct', {}, { ...jane, groups: ['system:masters'], credential: { token: 'of jane' } }));
  const answer = await ask(upstream, headOf('direct', {}, { ...jane, credential: { certificate: mine.cert, privateKey: mine.key } }));
  expect(seen.map(who)).toEqual([['authorization', 'Bearer of jane'], []]);
  expect(answer.body).toBe('child as mine');
});

test('an agent with a certificate shows it only when it speaks for itself', async () => {
  const agent = makeClient(ca, 'agent');
  const { seen, connection } = await child({ authorization: async () => undefined, cert: agent.cert, key: agent.key });
  const { upstream } = await agentEnd(clean, { child: () => connection });
  expect((await ask(upstream, headOf('direct'))).body).toBe('child as agent');
  expect((await ask(upstream, headOf('direct', {}, { ...jane, credential: { token: 't' } }))).body).toBe('child as undefined');
  expect((await ask(upstream, headOf('direct'))).body).toBe('child as agent');
  expect(seen.map(who)).toEqual([
    ['impersonate-user', 'jane'],
    ['authorization', 'Bearer t'],
    ['impersonate-user', 'jane'],
  ]);
});

test('another target gets neither the credential of the agent nor the name of the caller; a token that was brought, it gets', async () => {
  const seen: IncomingMessage[] = [];
  const server = createPlain((got, response) => {
    seen.push(got);
    response.end('target');
  });
  countConnections(clean, server);
  const port = await listen(server);
  const { connection } = await child();
  const { upstream } = await agentEnd(clean, { child: () => connection, allowTargets: [parseTargetPattern('127.0.0.1')] });
  const authority = `127.0.0.1:${port}`;
  await ask(upstream, headOf(authority, { headers: ['authorization', 'Basic mine', 'cookie', 'a=b'] }, { ...jane, groups: ['dev'] }));
  await ask(upstream, headOf(authority, {}, { ...jane, credential: { token: 't' } }));
  expect(seen.map(who)).toEqual([[], ['authorization', 'Bearer t']]);
  expect(seen[0]?.headers).toMatchObject({ host: authority, cookie: 'a=b' });
});

test.each([
  ['nobody', []],
  ['two callers', ['fairlead-user', 'jane', 'fairlead-user', 'admin']],
  ['a caller that cannot be read', ['fairlead-user', '%C3']],
  ['a caller with half a credential', ['fairlead-user', 'jane', 'fairlead-child-certificate', 'x']],
  ['a component of the parent', encodeCaller({ ...jane, name: 'system:kube-controller-manager' })],
  ['a caller with a line end in the name', encodeCaller({ ...jane, name: 'a\r\nb' })],
])('%s is refused with 403, and nothing reaches the child', async (_what, headers) => {
  const { seen, connection } = await child();
  const { tunnel, errors } = await agentEnd(clean, { child: () => connection });
  const { code, body } = await rawStream(tunnel, [':method', 'GET', ':scheme', 'https', ':authority', 'direct', ':path', '/', ...headers]);
  expect(code).toBe(403);
  expect(JSON.parse(body)).toMatchObject({ kind: 'Status', code: 403 });
  expect(seen).toEqual([]);
  expect(errors).toEqual([]);
});

test('a machine without a cluster says so; the agent itself answers under its own name', async () => {
  const { upstream, tunnel } = await agentEnd(clean, {});
  expect(await failure(ask(upstream, headOf('direct')))).toEqual({ code: 503, message: 'there is no cluster on this machine yet' });
  expect((await rawStream(tunnel, { ':authority': 'agent', ':path': '/' })).code).toBe(200);
});

test.each([
  ['another CA', () => makeServer(makeCa('child-ca')), /certificate|signature/],
  ['another name', () => makeServer(ca, ['other.example']), /altnames/],
  [
    'an end that is past',
    () =>
      issueCertificate({
        commonName: 'server',
        altNames: ['a.test', '127.0.0.1'],
        usages: ['serverAuth'],
        issuer: ca,
        notBefore: new Date(Date.now() - 172_800_000),
        notAfter: new Date(Date.now() - 86_400_000),
      }),
    /expired/,
  ],
])(
  'R29: a child or target whose certificate has %s is a 502 with the reason, and gets no request and no credential',
  async (_what, make, reason) => {
    const { cert, key } = make();
    let asked = 0;
    const server = createServer({ cert, key }, (_got, response) => {
      asked++;
      response.end();
    });
    server.on('tlsClientError', () => undefined);
    countConnections(clean, server);
    const port = await listen(server);
    const { upstream } = await agentEnd(clean, {
      child: () => ({ server: `https://127.0.0.1:${port}`, ca: ca.cert, authorization: async () => 'Bearer agent' }),
      allowTargets: ['*.test', '127.0.0.1'].map(parseTargetPattern),
      targetCA: () => ca.cert,
    });
    fakeNames(clean, () => ['127.0.0.1']);
    for (const authority of ['direct', `a.test:${port}`]) {
      const { code, message } = await failure(ask(upstream, headOf(authority, { scheme: 'https' })));
      expect({ authority, code }).toEqual({ authority, code: 502 });
      expect(message).toMatch(reason);
      expect(message).toContain(authority === 'direct' ? "the cluster's API server" : `https://a.test:${port}`);
      expect(message).not.toContain('Bearer');
    }
    expect(asked).toBe(0);
  },
);

test('a failure inside of the agent: the caller gets an id and nothing else, the log the same id with the reason, once', async () => {
  const reason = { current: new Error('exec: /usr/bin/aws: exit code 255\nin /home/agent') as Error };
  const { connection } = await child({ authorization: () => Promise.reject(reason.current) });
  const { upstream, errors } = await agentEnd(clean, { child: () => connection });
  const answers = [await failure(ask(upstream, headOf('direct'))), await failure(ask(upstream, headOf('direct')))];
  const id = /log id ([0-9a-f-]{36})/.exec(answers[0]?.message ?? '')?.[1] ?? 'none';
  expect(answers).toEqual([0, 1].map(() => ({ code: 502, message: `the request failed in the agent of this cluster (log id ${id})` })));
  expect(errors.map((error) => (error as Error).message)).toEqual([
    `a request failed in the agent (log id ${id}): exec: /usr/bin/aws: exit code 255 in /home/agent`,
  ]);
  // Such messages quote what was read.
  reason.current = new SyntaxError('Unexpected token in "eyJhbGciOi"');
  expect((await failure(ask(upstream, headOf('direct')))).code).toBe(502);
  expect(String(errors[1])).not.toContain('eyJ');
});

test('the CAs of a file are read anew when it changes; while it is no good the old ones count, and the caller hears of no path', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'target-ca-'));
  clean.after(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'ca.crt');
  const [first, second] = [makeCa('first').cert, makeCa('second').cert];
  await writeFile(file, first);
  const errors: unknown[] = [];
  const current = targetCAFile(file, (error) => errors.push(error));
  expect([current(), current()]).toEqual([first, first]);
  await rm(file);
  expect([current(), current()]).toEqual([first, first]);
  expect(errors.map(String)).toEqual([expect.stringContaining(`FlagError: --target-ca-file ${file}: ENOENT`)]);
  await writeFile(file, 'half');
  expect(current()).toBe(first);
  expect(errors).toHaveLength(2);
  await writeFile(file, second);
  expect(current()).toBe(second);
  expect(targetCAFile('', () => undefined)()).toBeUndefined();
});

test('connections and requests are told to who asks for them: without query, headers or credentials', async () => {
  const { connection } = await child();
  const connections: ConnectionTried[] = [];
  const requests: RequestAnswered[] = [];
  const { upstream } = await agentEnd(clean, {
    child: () => connection,
    onConnection: (tried) => connections.push(tried),
    onRequest: (answered) => requests.push(answered),
  });
  await ask(upstream, headOf('direct', { path: '/api/v1/pods?token=hidden' }));
  await failure(ask(upstream, headOf('10.9.9.9:80', { path: '/x' })));
  const ms = expect.any(Number);
  expect(connections).toEqual([{ target: "the cluster's API server", address: '127.0.0.1', ms }]);
  expect(requests).toEqual([
    { method: 'GET', target: 'direct', path: '/api/v1/pods', user: 'jane', code: 200, ms },
    { method: 'GET', target: '10.9.9.9:80', path: '/x', user: 'jane', code: 403, ms },
  ]);
});
