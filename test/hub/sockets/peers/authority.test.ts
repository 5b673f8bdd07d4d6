import { X509Certificate } from 'node:crypto';
import { expect, test, vi } from 'vitest';
import { parseBundle } from '../../../../src/hub/certificates/bundle.ts';
import { type PeerAuthority, peerAuthority } from '../../../../src/hub/sockets/peers/authority.ts';
import { peerIdentity } from '../../../../src/hub/sockets/peers/identity.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { type KubeApi, kubeApi } from '../../../support/kube-api.ts';
import { ask, NAMESPACE, putSlice, SECRET, SECRET_PATH, startReplica, target } from './replicas.ts';

const undo = cleanUp();
const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 40_000, interval: 10 });

async function memoryApi(): Promise<KubeApi> {
  const api = await kubeApi();
  undo.after(() => api.close());
  return api;
}
const authorityFor = (api: KubeApi, identity: string, options: Partial<Parameters<typeof peerAuthority>[0]> = {}): PeerAuthority =>
  peerAuthority({ client: api.client, namespace: NAMESPACE, secret: SECRET, identity, signal: undo.signal(), pollMs: 100, ...options });

const credentials = (authority: PeerAuthority) =>
  eventually(() => {
    const found = authority.current();
    if (!found) throw new Error('no credentials yet');
    return found;
  });
const stored = (api: KubeApi, part: string) =>
  Buffer.from((api.get(SECRET_PATH) as { data?: Record<string, string> } | undefined)?.data?.[part] ?? '', 'base64').toString();

test('replicas that start together agree on one authority, and each has a certificate of its own for a day', async () => {
  const api = await memoryApi();
  const names = ['hub-1', 'hub-2', 'hub-3', 'hub-4'];
  const all = await Promise.all(names.map((name) => credentials(authorityFor(api, name))));
  expect(new Set(all.map(({ ca }) => ca)).size).toBe(1);
  expect(api.count('POST', '/secrets')).toBeGreaterThanOrEqual(1);
  for (const [at, { cert, ca }] of all.entries()) {
    const leaf = new X509Certificate(cert);
    expect(peerIdentity(leaf, NAMESPACE, ca)).toBe(names[at]);
    const hoursLeft = (leaf.validToDate.getTime() - Date.now()) / 3_600_000;
    expect(hoursLeft).toBeGreaterThan(23.9);
    expect(hoursLeft).toBeLessThanOrEqual(24);
    expect(cert).not.toContain('PRIVATE');
  }
  expect(new Set(all.map(({ key }) => key)).size).toBe(4);
  const authority = new X509Certificate(stored(api, 'tls.crt'));
  expect([authority.ca, authority.publicKey.asymmetricKeyDetails?.namedCurve]).toEqual([true, 'prime256v1']);
});

test('a Secret that cannot be read or that makes no sense is waited out or replaced', async () => {
  const api = await memoryApi();
  const problems: string[] = [];
  const heal = api.fault(({ path }) => (path.includes('/secrets') ? { code: 403 } : undefined));
  const authority = authorityFor(api, 'hub-1', { onProblem: (text) => problems.push(text) });
  await eventually(() => expect(authority.problem()).toContain(SECRET));
  expect(authority.current()).toBeUndefined();
  heal();
  const { ca } = await credentials(authority);
  await eventually(() => expect(authority.problem()).toBeUndefined());
  expect(problems).toHaveLength(1);
  // A pair that does not fit together.
  const secret = api.get(SECRET_PATH);
  if (!secret) throw new Error('no Secret');
  api.put(`/api/v1/namespaces/${NAMESPACE}/secrets`, { ...secret, data: { 'tls.crt': 'AAAA', 'tls.key': 'AAAA', 'ca.crt': 'AAAA' } });
  await eventually(() => expect(authority.current()?.ca).not.toBe(ca));
  expect(peerIdentity(new X509Certificate(authority.current()?.cert ?? ''), NAMESPACE, stored(api, 'ca.crt'))).toBe('hub-1');
});

test('the authority and all certificates are replaced without a failed request or a broken stream', async () => {
  const api = await memoryApi();
  const certificates = { authorityMs: 12_000, certificateMs: 6_000, pollMs: 150 };
  // A quiet stream on a connection that was replaced must outlive this silence.
  const settings = { signal: undo.signal(), certificates, timing: { goneMs: 3_000 } };
  const one = await startReplica(api, 'hub-1', settings);
  undo.after(() => one.peers.close(0));
  const two = await startReplica(api, 'hub-2', settings);
  undo.after(() => two.peers.close(0));
  putSlice(api, 'hub-1', one.peers.port);
  putSlice(api, 'hub-2', two.peers.port);
  const child = target('child');
  two.tunnels.set('c1', child);
  await eventually(() => expect(one.peers.find('c1')).toBeDefined());
  const upstream = one.peers.find('c1');
  if (!upstream) throw new Error('no way');
  const [first, stream] = [stored(api, 'tls.crt'), ask(upstream, { path: '/stream' })];
  stream.catch(() => undefined);
  let requests = 0;
  const changed = () => stored(api, 'tls.crt') !== first;
  const quiet = performance.now() + 3.5 * settings.timing.goneMs;
  for (let after = 0; after < 1_000 || performance.now() < quiet; ) {
    const way = one.peers.find('c1');
    if (!way) throw new Error(`no way after ${requests} requests`);
    expect((await ask(way, {})).code).toBe(200);
    requests++;
    if (changed()) after++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(requests).toBeGreaterThan(1_000);
  // The new authority has signed for both, and the old one is still believed.
  await eventually(() => expect(parseBundle(stored(api, 'ca.crt')).length).toBeGreaterThanOrEqual(2));
  child.streams[0]?.end('whole');
  expect((await stream).body.toString()).toBe('whole');
  const metrics = await one.registry.metrics();
  expect(metrics).not.toMatch(/peer_link_failures_total\{/);
  expect(metrics).toMatch(/peer_requests_total\{result="answered"\} \d+/);
  expect(metrics).not.toContain('result="lost"');
});

test('an authority that is taken away counts no more: its connections end, and the replicas agree on a new one', async () => {
  const api = await memoryApi();
  const certificates = { pollMs: 100 };
  const one = await startReplica(api, 'hub-1', { signal: undo.signal(), certificates });
  undo.after(() => one.peers.close(0));
  const two = await startReplica(api, 'hub-2', { signal: undo.signal(), certificates });
  undo.after(() => two.peers.close(0));
  putSlice(api, 'hub-2', two.peers.port);
  two.tunnels.set('c1', target('child'));
  await eventually(() => expect(one.peers.find('c1')).toBeDefined());
  const upstream = one.peers.find('c1');
  if (!upstream) throw new Error('no way');
  const stream = ask(upstream, { path: '/stream' });
  stream.catch(() => undefined);
  const before = stored(api, 'tls.crt');
  api.remove(SECRET_PATH);
  await expect(stream).rejects.toMatchObject({ code: 503 });
  await eventually(() => expect(stored(api, 'tls.crt')).not.toBe(before));
  await eventually(async () => expect((await ask(one.peers.find('c1') ?? upstream, {})).code).toBe(200));
  expect(stored(api, 'ca.crt')).toBe(stored(api, 'tls.crt'));
});
