import { X509Certificate } from 'node:crypto';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseBundle } from '../../../src/hub/certificates/bundle.ts';
import { type SelfSignedOptions, selfSignedCertificate } from '../../../src/hub/certificates/self-signed.ts';
import type { KeptCertificate } from '../../../src/hub/certificates/serving.ts';
import { listenerTlsOptions, updateSecureContext } from '../../../src/hub/http/tls.ts';
import { call } from '../auth/call.ts';
import { eventually } from '../auth/eventually.ts';
import { type LoopbackApi, loopbackApi } from '../auth/loopback-api.ts';
import { makeCa } from '../auth/pki.ts';

const SECRETS = '/api/v1/namespaces/fairlead/secrets';
const API_SERVICES = '/apis/apiregistration.k8s.io/v1/apiservices';
const NAMES = ['v1.infraops.michael.io', 'v1alpha1.proxies.clusternet.io'];
const SECRET = 'fairlead-hub-serving';

let api: LoopbackApi;
let stop: AbortController;
let cleanUp: (() => Promise<void> | void)[];

beforeEach(async () => {
  api = await loopbackApi();
  stop = new AbortController();
  cleanUp = [];
});
afterEach(async () => {
  stop.abort();
  for (const undo of cleanUp.reverse()) await undo();
  await api.close();
});

const start = (options: Partial<SelfSignedOptions> = {}): Promise<KeptCertificate> =>
  selfSignedCertificate({
    client: api.client,
    namespace: 'fairlead',
    service: 'fairlead-hub',
    secret: SECRET,
    apiServices: NAMES,
    signal: stop.signal,
    ...options,
  });

function register(name: string, spec: Record<string, unknown> = {}): void {
  api.put(API_SERVICES, { metadata: { name }, spec: { service: { name: 'fairlead-hub', namespace: 'fairlead' }, ...spec } });
}
const bundleOf = (name: string) => Buffer.from(String(api.get(API_SERVICES, name)?.spec?.['caBundle'] ?? ''), 'base64').toString();

/** A listener with the certificate, as the hub runs it. */
async function serve(certificate: KeptCertificate): Promise<number> {
  const server = createServer(listenerTlsOptions(certificate.current(), undefined));
  server.on('request', (_, response) => response.end('{}'));
  certificate.onChange((pair) => updateSecureContext(server, pair, undefined), stop.signal);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp.push(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
  return (server.address() as AddressInfo).port;
}

test('replicas that start together share one certificate, and the APIServices trust it', async () => {
  register(NAMES[0] ?? '', { insecureSkipTLSVerify: true });
  register(NAMES[1] ?? '', { caBundle: Buffer.from(makeCa('somebody else').cert).toString('base64') });
  const replicas = await Promise.all(Array.from({ length: 6 }, () => start({ extraNames: ['192.0.2.1', '2001:db8::1', 'Hub.Example'] })));
  expect(new Set(replicas.map((replica) => replica.current().cert)).size).toBe(1);
  const leaf = new X509Certificate(replicas[0]?.current().cert ?? '');
  for (const name of ['fairlead-hub.fairlead.svc', 'fairlead-hub.fairlead.svc.cluster.local', 'fairlead-hub', 'localhost', 'hub.example']) {
    expect(leaf.checkHost(name), name).toBeDefined();
  }
  expect(leaf.checkIP('192.0.2.1')).toBeDefined();
  expect(leaf.checkIP('2001:db8::1')).toBeDefined();
  for (const name of NAMES) {
    const cas = parseBundle(bundleOf(name));
    expect(cas.length).toBe(1);
    expect(leaf.verify((cas[0] as X509Certificate).publicKey)).toBe(true);
    expect(api.get(API_SERVICES, name)?.spec?.['insecureSkipTLSVerify']).toBe(false);
  }
  const secret = api.get(SECRETS, SECRET);
  expect(secret?.['type']).toBe('kubernetes.io/tls');
  expect(Object.keys(secret?.data ?? {}).toSorted()).toEqual(['ca.crt', 'tls.crt', 'tls.key']);
  const again = await start();
  expect(again.current().cert).toBe(replicas[0]?.current().cert);
});

test('a Secret that is damaged is made anew, without waiting', async () => {
  register(NAMES[0] ?? '');
  register(NAMES[1] ?? '');
  api.put(SECRETS, { metadata: { name: SECRET }, type: 'kubernetes.io/tls', data: { 'tls.crt': 'eA==', 'tls.key': '', 'ca.crt': '' } });
  const certificate = await start();
  const port = await serve(certificate);
  expect((await call({ port, ca: bundleOf(NAMES[0] ?? '') })).code).toBe(200);
});

test('an APIService that comes later is patched then; until then the hub serves and says what is missing', async () => {
  const certificate = await start({ validityMs: 10_000 });
  expect(certificate.problem()).toContain(NAMES[0]);
  register(NAMES[0] ?? '');
  register(NAMES[1] ?? '');
  await eventually('the bundle', () => bundleOf(NAMES[1] ?? '') !== '');
  await eventually('no problem', () => certificate.problem() === undefined);
});

test('without the API server it waits and begins when it is back; a stop ends the waiting', async () => {
  for (const name of NAMES) register(name);
  api.fault('secrets', { code: 500, body: '{}' });
  const problems: string[] = [];
  const starting = start({ onProblem: (problem) => problems.push(problem) });
  await eventually('the problem', () => problems.some((problem) => problem.includes(`fairlead/${SECRET}`)));
  api.fault('secrets', undefined);
  await starting;
  api.fault('secrets', 'silence');
  const given = new AbortController();
  const waiting = start({ signal: given.signal });
  given.abort(new Error('stopped'));
  await expect(waiting).rejects.toThrow('stopped');
});

test('a new certificate is not used before the APIServices trust its CA', async () => {
  for (const name of NAMES) register(name);
  const certificate = await start({ validityMs: 6_000, settleMs: 200 });
  const first = certificate.current().cert;
  api.fault(NAMES[1] ?? '', { code: 403, body: '{}' });
  await eventually('the next pair', () => api.get(SECRETS, SECRET)?.data?.['next-tls.crt'], 6_000);
  await eventually('the problem', () => certificate.problem()?.includes('cannot be written'));
  expect(certificate.current().cert).toBe(first);
  api.fault(NAMES[1] ?? '', undefined);
  await eventually('the new certificate', () => certificate.current().cert !== first, 6_000);
  expect(Object.keys(api.get(SECRETS, SECRET)?.data ?? {})).not.toContain('next-tls.key');
});

test('certificates rotate at two thirds of their life, in all replicas, without a failed call', { timeout: 40_000 }, async () => {
  for (const name of NAMES) register(name);
  const lifeMs = 9_000;
  const replicas = await Promise.all(Array.from({ length: 3 }, () => start({ validityMs: lifeMs })));
  const ports = await Promise.all(replicas.map(serve));
  // kube-aggregator learns of a new bundle a little late.
  let known = bundleOf(NAMES[0] ?? '');
  const learning = setInterval(() => {
    known = bundleOf(NAMES[0] ?? '');
  }, 200);
  cleanUp.push(() => clearInterval(learning));
  const used = new Map<string, { since: number; until: number }>();
  const failures: string[] = [];
  let calls = 0;
  await eventually(
    'three certificates',
    async () => {
      for (const [at, port] of ports.entries()) {
        calls++;
        await call({ port, ca: known }).catch((error: unknown) => failures.push(String(error)));
        const { cert } = replicas[at]?.current() ?? { cert: '' };
        const now = Date.now();
        used.set(cert, { since: used.get(cert)?.since ?? now, until: now });
      }
      return used.size >= 3;
    },
    30_000,
  );
  expect(failures).toEqual([]);
  expect(calls).toBeGreaterThan(100);
  for (const [cert, { until }] of used) expect(until).toBeLessThan(new X509Certificate(cert).validToDate.getTime());
  expect(parseBundle(known).length).toBeLessThanOrEqual(4);
});
