import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { issueCertificate } from '../../src/hub/certificates/x509.ts';
import { clusternetUpstream } from '../../src/hub/sockets/clusternet.ts';
import type { SocketCluster } from '../../src/hub/sockets/clusters.ts';
import { serveRemotedialer } from '../../src/tunnel/remotedialer/agent.ts';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { ask, countConnections, failure, headOf, listen } from './agent-end.ts';
import { hub as clusternetHub } from './remotedialer/ends.ts';

const clean = cleanUp();
const ca = makeCa('child-ca');
const DAY = 86_400_000;

async function dialled(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

/** A child behind a clusternet agent, as the hub sees it. */
async function behindClusternet(serving: { cert: string; key: string }, more: Partial<SocketCluster>) {
  let asked = 0;
  const server = createServer(serving, (_got, response) => {
    asked++;
    response.end('child');
  });
  server.on('tlsClientError', () => undefined);
  countConnections(clean, server);
  const port = await listen(server);
  const hub = await clusternetHub(clean);
  await serveRemotedialer({
    url: new URL(`http://127.0.0.1:${hub.port}/`),
    open: async () => await dialled(hub.port),
    token: async () => 'secret',
    userAgent: 'agent',
    connect: async () => await dialled(port),
    signal: clean.signal(),
  });
  const [session] = hub.sessions;
  if (!session) throw new Error('no session');
  const cluster: SocketCluster = {
    id: 'c',
    name: 'edge',
    namespace: 'edge-ns',
    apiserverURL: `https://127.0.0.1:${port}`,
    childCA: ca.cert,
    childInsecure: false,
    credentialIDs: undefined,
    ...more,
  };
  return { upstream: clusternetUpstream(session, () => cluster), port, asked: () => asked };
}
const expired = () =>
  issueCertificate({
    commonName: 's',
    altNames: ['127.0.0.1'],
    usages: ['serverAuth'],
    issuer: ca,
    notBefore: new Date(Date.now() - 2 * DAY),
    notAfter: new Date(Date.now() - DAY),
  });

test.each([
  ['of another CA', () => makeServer(makeCa('child-ca')), {}, /certificate|signature/i],
  ['of another name', () => makeServer(ca, ['other.example']), {}, /altnames/],
  ['that has expired', expired, {}, /expired/],
  [
    'of a CA that nobody gave',
    () => makeServer(ca),
    { childCA: undefined },
    /give the child's CA as ca\.crt in a ConfigMap .* clusters\.clusternet\.io\/cluster-id=/,
  ],
])('R29: behind a clusternet agent, a certificate %s is a 502 with the target and the reason', async (_what, make, more, reason) => {
  const { upstream, port, asked } = await behindClusternet(make(), more);
  const { code, message } = await failure(ask(upstream, headOf('direct')));
  expect(code).toBe(502);
  expect(message).toMatch(reason);
  expect(message).toContain(`https://127.0.0.1:${port}`);
  expect(asked()).toBe(0);
});

test('R29: a good certificate is taken, and a bad one only for the cluster for which an administrator said so', async () => {
  const good = await behindClusternet(makeServer(ca), {});
  expect(await ask(good.upstream, headOf('direct'))).toMatchObject({ code: 200, body: 'child' });
  const insecure = await behindClusternet(expired(), { childInsecure: true });
  expect(await ask(insecure.upstream, headOf('direct'))).toMatchObject({ code: 200, body: 'child' });
});

/** Every line that could turn verification off, and why it may stand there. */
const KNOWN: ReadonlyMap<string, string> = new Map([
  ['src/agent/upstream/dial.ts', 'rejectUnauthorized: true,'],
  ['src/agent/parent/parent.ts', 'rejectUnauthorized: true,'],
  ['src/hub/sockets/peers/listener.ts', 'rejectUnauthorized: true,'],
  ['src/hub/sockets/peers/connection.ts', 'rejectUnauthorized: true,'],
  // The per-cluster opt-in, which shows as a condition of the ManagedCluster.
  ['src/hub/sockets/clusternet.ts', 'rejectUnauthorized: !cluster.childInsecure,'],
  // A listener: callers with a token have no certificate, and what is made of one is decided by the hub.
  ['src/hub/http/tls.ts', 'rejectUnauthorized: false,'],
]);

test('R29: no other code turns the verification of certificates off', () => {
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  expect(files.length).toBeGreaterThan(100);
  const found: string[] = [];
  for (const file of files) {
    // What a kubeconfig says is read in one place and used in the client only, and it comes from the person who runs the hub.
    if (file === 'kube/client.ts' || file === 'kube/plain-config.ts') continue;
    for (const line of readFileSync(`src/${file}`, 'utf8').split('\n')) {
      if (!/rejectUnauthorized|TLS_REJECT_UNAUTHORIZED|checkServerIdentity|VERIFY_NONE/.test(line)) continue;
      if (/^\s*(\/\/|\*|\/\*)/.test(line)) continue;
      // Replicas are known by the URI in their certificate, not by a name: test/hub/sockets/peers/identity.test.ts.
      if (file === 'hub/sockets/peers/connection.ts' && line.trim() === 'checkServerIdentity: () => undefined,') continue;
      if (KNOWN.get(`src/${file}`) !== line.trim()) found.push(`${file}: ${line.trim()}`);
    }
  }
  expect(found).toEqual([]);
  const client = readFileSync('src/kube/client.ts', 'utf8');
  expect(client).not.toMatch(/rejectUnauthorized: |rejectUnauthorized = /);
  const plain = readFileSync('src/kube/plain-config.ts', 'utf8');
  expect(plain.match(/.*rejectUnauthorized.*/g)).toEqual([
    "      if (cluster?.['insecure-skip-tls-verify']) options.rejectUnauthorized = false;",
  ]);
});
