import { KubeConfig } from '@kubernetes/client-node';
import { expect, test, vi } from 'vitest';
import { refusals } from '../../src/agent/registration/refusals.ts';
import { keepRegistered, type Registration, type RegistrationOptions } from '../../src/agent/registration/registration.ts';
import { secretStore } from '../../src/agent/registration/secret-store.ts';
import { kubeClient } from '../../src/kube/client.ts';
import { registrationName } from '../../src/kube/clusternet.ts';
import { cleanUp } from '../support/clean-up.ts';
import { type KubeApi, kubeApi, type Seen } from '../support/kube-api.ts';
import { type Approver, approver, BOOTSTRAP, GROUPS, madeToken, REQUESTS } from './support/approver.ts';

const { after } = cleanUp();
const ID = '6b0f9c53-2a0b-4b53-9d1f-0e7a5f3c1d2e';
const REQUEST = `${REQUESTS}/${registrationName(ID)}`;
const SECRET = '/api/v1/namespaces/clusternet-system/secrets/parent-cluster';

type World = { parent: KubeApi; child: KubeApi; hub: Approver; said: string[]; start(options?: Partial<RegistrationOptions>): Running };
type Running = Registration & { crash(): Promise<void> };

async function world(): Promise<World> {
  const [parent, child] = [await kubeApi(), await kubeApi()];
  after(() => Promise.all([parent.close(), child.close()]));
  const hub = approver(parent);
  const said: string[] = [];
  return {
    parent,
    child,
    hub,
    said,
    start(options = {}) {
      const stop = new AbortController();
      const registration = keepRegistered({
        clusterId: ID,
        cluster: { name: 'edge', namespace: '', type: 'EdgeCluster', labels: { zone: 'a' }, syncMode: 'Pull' },
        parentURL: parent.server,
        client: (token) => clientOf(parent.server, token),
        bootstrapToken: async () => BOOTSTRAP,
        store: secretStore(() => child.client, 'clusternet-system'),
        signal: stop.signal,
        say: (_level, text) => said.push(text),
        timing: { pollMs: 5, longestPollMs: 20, retryMs: 5, longestRetryMs: 20, renewalMs: 2_000, takenBackMs: 100_000 },
        ...options,
      });
      const crash = async () => {
        stop.abort();
        await registration.ended;
      };
      after(crash);
      return { ...registration, crash };
    },
  };
}

function clientOf(server: string, token: string) {
  const config = new KubeConfig();
  config.loadFromClusterAndUser({ name: 'p', server, skipTLSVerify: true }, { name: 'u', token });
  return kubeClient(config);
}
const registered = (registration: Registration) =>
  vi.waitFor(
    () => {
      const credential = registration.credential();
      if (!credential || registration.waitingFor() !== undefined) throw new Error(`still ${registration.waitingFor()}`);
      return credential;
    },
    { timeout: 20_000, interval: 5 },
  );
const renewed = (registration: Registration, hub: Approver) =>
  vi.waitFor(() => expect([hub.issued.length, registration.credential()?.token]).toEqual([2, hub.issued.at(-1)]), { timeout: 20_000 });
/** A token of this life is due to be renewed when the agent's clock has gone on by so much; a test is never late for it. */
const [LIFE, DUE_MS] = [300, 250_000];
const stored = (child: KubeApi) => Buffer.from(child.get(SECRET)?.data?.['token'] ?? '', 'base64').toString();

test('a cluster registers with its name, labels and groups, and gets its credential opened and stored', async () => {
  const { parent, child, hub, start, said } = await world();
  const credential = await registered(start());
  expect(credential).toMatchObject({
    token: hub.issued[0],
    namespace: 'clusternet-abcde',
    managedCluster: 'edge',
    ca: 'PEM',
    clusterId: ID,
  });
  expect(stored(child)).toBe(hub.issued[0]);
  const request = parent.get(REQUEST);
  expect(request?.metadata).toMatchObject({
    labels: {
      'clusters.clusternet.io/registered-by': 'clusternet-agent',
      'clusters.clusternet.io/cluster-id': ID,
      'clusters.clusternet.io/cluster-name': 'edge',
    },
    annotations: { 'infraops.michael.io/requested-by-groups': GROUPS.join(',') },
  });
  expect(request?.spec).toMatchObject({
    clusterId: ID,
    clusterName: 'edge',
    clusterType: 'EdgeCluster',
    clusterLabels: { zone: 'a' },
    syncMode: 'Pull',
  });
  // Nothing that anybody can read in the parent holds the token.
  expect(JSON.stringify(request)).not.toContain(hub.issued[0]);
  expect(said.join()).not.toContain(hub.issued[0] ?? '-');
});

test('after a restart the stored credential is used, without the bootstrap token and without a new request', async () => {
  const { parent, hub, start } = await world();
  const first = start();
  await registered(first);
  await first.crash();
  hub.tokens.delete(BOOTSTRAP);
  const posts = parent.count('POST', REQUESTS);
  const credential = await registered(start({ bootstrapToken: async () => undefined }));
  expect(credential.token).toBe(hub.issued[0]);
  expect([hub.issued.length, parent.count('POST', REQUESTS)]).toEqual([1, posts]);
});

test('Pending is waited out and said, with what the hub says', async () => {
  const { hub, start, said } = await world();
  hub.policy = { result: 'Pending', message: 'kubectl infra approve edge' };
  const registration = start();
  await vi.waitFor(() => expect(registration.waitingFor()).toContain('kubectl infra approve edge'));
  expect(registration.credential()).toBeUndefined();
  hub.policy = { result: 'Approved' };
  hub.look();
  await registered(registration);
  expect(said.some((text) => text.includes('waiting for approval'))).toBe(true);
});

test('a denied cluster loses its credential, and is back when it is let in again', async () => {
  const { hub, start } = await world();
  const registration = start();
  const credential = await registered(registration);
  hub.policy = { result: 'Denied', message: 'not ours' };
  hub.look();
  hub.tokens.delete(credential.token);
  let told = 0;
  registration.onChange(() => told++, new AbortController().signal);
  registration.refused(credential);
  await vi.waitFor(() => expect(registration.waitingFor()).toContain('not ours'));
  expect(registration.credential()).toBeUndefined();
  expect(told).toBe(1);
  hub.policy = { result: 'Approved' };
  hub.look();
  expect((await registered(registration)).token).toBe(hub.issued.at(-1));
});

test.each([403, 404, 401])(
  'one %d for a credential that is good, and no bootstrap token any more: it comes back by itself, and no tunnel is ended',
  async (code) => {
    const { parent, hub, start, said } = await world();
    const first = start();
    await registered(first);
    await first.crash();
    let left = 1;
    parent.fault(({ method, path }) => (method === 'GET' && path === REQUEST && left-- > 0 ? { code } : undefined));
    const registration = start({ bootstrapToken: async () => undefined });
    const told: unknown[] = [];
    registration.onChange(() => told.push(registration.credential()), new AbortController().signal);
    const credential = await registered(registration);
    // The first one came with the start, and then while it runs.
    left = 1;
    registration.refused(credential);
    await vi.waitFor(() => expect(left).toBeLessThan(1));
    expect(await registered(registration)).toEqual(credential);
    expect(said.some((text) => text.includes('tried again'))).toBe(true);
    expect(told.filter((given) => given === undefined)).toEqual([]);
    expect([hub.issued.length, parent.count('POST', REQUESTS)]).toEqual([1, 1]);
  },
);

test('a credential that is refused for good is not used any more, is still tried, and with a bootstrap token the cluster registers anew', async () => {
  const { parent, hub, start } = await world();
  let token: string | undefined = BOOTSTRAP;
  const timing = { pollMs: 5, longestPollMs: 20, retryMs: 5, longestRetryMs: 20, renewalMs: 2_000, takenBackMs: 50 };
  const registration = start({ bootstrapToken: async () => token, timing });
  const credential = await registered(registration);
  token = undefined;
  hub.tokens.delete(credential.token);
  registration.refused(credential);
  await vi.waitFor(() => expect(registration.credential()).toBeUndefined());
  // It was a long mistake of the parent: the very same is taken again.
  hub.tokens.add(credential.token);
  expect(await registered(registration)).toEqual(credential);
  hub.tokens.delete(credential.token);
  parent.remove(REQUEST);
  registration.refused(credential);
  await vi.waitFor(() => expect(registration.credential()).toBeUndefined());
  token = BOOTSTRAP;
  expect((await registered(registration)).token).toBe(hub.issued[1]);
});

test('refusals count only in a row, several of them, and over their time', () => {
  let now = 0;
  const count = refusals(30, () => now);
  const seen = (...given: [at: number, refused: boolean][]) =>
    given.map(([at, refused]) => {
      now = at;
      count.note(refused);
      return count.takenBack();
    });
  expect(seen([0, true], [1, true], [2, true], [31, true])).toEqual([false, false, false, true]);
  expect(seen([40, false], [41, true], [50, false], [75, true], [90, true])).toEqual([false, false, false, false, false]);
  expect(seen([200, true])).toEqual([true]);
  expect(seen([201, false], [300, true], [400, true])).toEqual([false, false, false]);
});

test('a bootstrap token that is refused is said with what to do, never shown, and replaced while the agent runs', async () => {
  const { hub, start, said } = await world();
  hub.tokens.delete(BOOTSTRAP);
  let token: string | undefined = 'zzzzzz.fedcba9876543210';
  const registration = start({ bootstrapToken: async () => token });
  await vi.waitFor(() => expect(registration.waitingFor()).toContain('refuses the bootstrap token'));
  token = undefined;
  await vi.waitFor(() => expect(registration.waitingFor()).toContain('--bootstrap-token-file'));
  hub.tokens.add(BOOTSTRAP);
  token = BOOTSTRAP;
  await registered(registration);
  expect(said.join()).not.toContain('fedcba9876543210');
});

test('two thirds into its life a token is renewed with the own credential, stored, and used', async () => {
  const { parent, child, hub, start } = await world();
  let now = Date.now();
  hub.lives = [LIFE];
  const registration = start({ now: () => now });
  const got: (string | undefined)[] = [];
  registration.onChange(() => {
    got.push(registration.credential()?.token);
    if (got.length > 1) return;
    hub.tokens.delete(BOOTSTRAP);
    now += DUE_MS;
  }, new AbortController().signal);
  await renewed(registration, hub);
  expect(got).toEqual(hub.issued);
  expect(stored(child)).toBe(hub.issued[1]);
  const patches = parent.seen.filter(({ method }) => method === 'PATCH');
  expect(patches).toHaveLength(1);
  expect(patches[0]?.headers.authorization).toBe(`Bearer ${hub.issued[0]}`);
});

test('a newer token in the request is taken without asking for another', async () => {
  const { hub, parent, start } = await world();
  hub.lives = [LIFE];
  const first = start();
  const old = await registered(first);
  await first.crash();
  // The renewal was answered while the agent was away.
  const request = parent.get(REQUEST);
  if (!request) throw new Error('no request');
  parent.put(REQUESTS, { ...request, spec: { ...request.spec, renewal: 'before the crash' } });
  hub.look();
  const second = start({ now: () => Date.now() + DUE_MS });
  await vi.waitFor(() => expect(second.credential()?.token).toBe(hub.issued[1]));
  expect([hub.issued.length, parent.count('PATCH', REQUESTS)]).toEqual([2, 0]);
  expect(old.token).toBe(hub.issued[0]);
});

test('with a lost key but a good credential the renewal brings the new key', async () => {
  const { parent, child, hub, start } = await world();
  hub.lives = [LIFE];
  const first = start();
  await registered(first);
  await first.crash();
  child.remove('/api/v1/namespaces/clusternet-system/secrets/fairlead-agent-key');
  const before = parent.get(REQUEST)?.spec?.['sealingKey'];
  const second = start({ now: () => Date.now() + DUE_MS });
  await renewed(second, hub);
  expect(parent.get(REQUEST)?.spec?.['sealingKey']).not.toBe(before);
});

test('a request sealed to another key cannot be opened: it is said what to delete', async () => {
  const { parent, child, hub, start } = await world();
  const first = start();
  await registered(first);
  await first.crash();
  child.remove('/api/v1/namespaces/clusternet-system/secrets/fairlead-agent-key');
  child.remove(SECRET);
  const second = start();
  await vi.waitFor(() => expect(second.waitingFor()).toContain(`kubectl delete clsrr ${registrationName(ID)}`));
  expect(second.credential()).toBeUndefined();
  parent.remove(REQUEST);
  expect((await registered(second)).token).toBe(hub.issued[1]);
});

test('a parent that does not seal (clusternet) gives its token plain; it never ends, and is used only when the parent accepts it', async () => {
  const { parent, hub, start } = await world();
  const token = 'plain-service-account-token';
  parent.put(REQUESTS, {
    metadata: { name: registrationName(ID) },
    spec: { clusterId: ID },
    status: {
      result: 'Approved',
      renewal: '',
      dedicatedNamespace: 'ns',
      managedClusterName: 'edge',
      token: Buffer.from(token).toString('base64'),
    },
  });
  const registration = start();
  await vi.waitFor(() => expect(registration.waitingFor()).toContain('does not accept the token'));
  expect(registration.credential()).toBeUndefined();
  hub.tokens.add(token);
  expect(await registered(registration)).toMatchObject({ token, expiresAt: undefined, namespace: 'ns', managedCluster: 'edge' });
});

test('a stored credential for another parent is not sent to this one', async () => {
  const { child, parent, hub, start } = await world();
  const foreign = madeToken(3_600);
  await secretStore(() => child.client, 'clusternet-system').saveCredential({
    clusterId: ID,
    parentURL: 'https://elsewhere',
    token: foreign,
    ca: '',
    namespace: 'n',
    managedCluster: 'm',
    obtainedAt: Date.now(),
    expiresAt: Date.now() + 1_000_000,
  });
  expect((await registered(start())).token).toBe(hub.issued[0]);
  expect(parent.seen.some(({ headers }) => headers.authorization?.includes(foreign))).toBe(false);
});

test('a parent that is away leaves the stored credential in use, and nothing is registered anew', async () => {
  const { parent, hub, start } = await world();
  const first = start();
  await registered(first);
  await first.crash();
  const back = parent.fault(() => ({ code: 503 }));
  const second = start();
  await vi.waitFor(() => expect(second.waitingFor()).toContain('503'));
  expect(second.credential()?.token).toBe(hub.issued[0]);
  back();
  await registered(second);
  expect(hub.issued).toHaveLength(1);
});

test('a crash at any write, before or after it is carried out: the next start ends with one request and one working credential', async () => {
  let points = 0;
  for (const how of ['refuse', 'lose'] as const) {
    for (let at = 1; ; at++) {
      const { parent, child, hub, start } = await world();
      let writes = 0;
      let crashed = false;
      let running: Running | undefined;
      const crash = ({ method }: Seen) => {
        if (method === 'GET' || crashed || ++writes !== at) return undefined;
        crashed = true;
        running?.crash().catch(() => undefined);
        return how;
      };
      parent.fault(crash);
      child.fault(crash);
      running = start();
      await vi.waitFor(() => expect(crashed || running?.waitingFor() === undefined).toBe(true), { interval: 2 });
      if (!crashed) break;
      points++;
      await running.ended;
      const credential = await registered(start());
      expect([parent.all(REQUESTS).length, hub.tokens.has(credential.token), stored(child)]).toEqual([1, true, credential.token]);
    }
  }
  // Key, groups, request, credential (patched, then created): each before and after.
  expect(points).toBeGreaterThanOrEqual(10);
});

test('a crash at any write of a renewal: the next start has a token that works, and no third was made', async () => {
  let points = 0;
  for (const how of ['refuse', 'lose'] as const) {
    for (let at = 1; ; at++) {
      const { parent, child, hub, start } = await world();
      hub.lives = [LIFE];
      let now = Date.now();
      let [writes, crashed] = [0, false];
      let running: Running | undefined;
      const crash = ({ method }: Seen) => {
        // The writes of the registration itself are those of the test before.
        if (method === 'GET' || crashed || !running?.credential() || ++writes !== at) return undefined;
        crashed = true;
        running.crash().catch(() => undefined);
        return how;
      };
      parent.fault(crash);
      child.fault(crash);
      const agent = start({ now: () => now });
      running = agent;
      agent.onChange(() => (now += DUE_MS), new AbortController().signal);
      await vi.waitFor(() => expect(crashed || (hub.issued.length > 1 && agent.credential()?.token === hub.issued[1])).toBe(true), {
        interval: 2,
        timeout: 20_000,
      });
      if (!crashed) break;
      points++;
      await agent.ended;
      const second = start({ now: () => now });
      await renewed(second, hub);
      expect([hub.issued.length, stored(child)]).toEqual([2, hub.issued[1]]);
      await second.crash();
    }
  }
  // The request's spec and the credential: each before and after.
  expect(points).toBeGreaterThanOrEqual(4);
});
