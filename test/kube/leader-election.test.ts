import { expect, test } from 'vitest';
import { electLeader, type LeaderElectionOptions, type Leadership } from '../../src/kube/leader-election.ts';
import { eventually } from '../hub/auth/eventually.ts';
import { cleanUp } from '../support/clean-up.ts';
import { type KubeApi, kubeApi, type Seen } from '../support/kube-api.ts';

const LEASES = '/apis/coordination.k8s.io/v1/namespaces/x/leases';
const LEASE = `${LEASES}/hub`;
const cleaning = cleanUp();

async function api(): Promise<KubeApi> {
  const made = await kubeApi();
  cleaning.after(made.close);
  return made;
}
const holder = (from: KubeApi) => from.get(LEASE)?.spec?.['holderIdentity'];

type Contender = { terms: Leadership[]; stop: () => Promise<void>; errors: unknown[]; leading: () => Leadership | undefined };

/** A contender with short times: lease 1 s, deadline 400 ms, retry 50 ms. */
function contender(from: KubeApi, identity: string, more: Partial<LeaderElectionOptions> = {}): Contender {
  const stop = new AbortController();
  const terms: Leadership[] = [];
  const errors: unknown[] = [];
  const ended = electLeader({
    client: from.client,
    namespace: 'x',
    name: 'hub',
    identity,
    leaseDurationMs: 1_000,
    renewDeadlineMs: 400,
    retryPeriodMs: 50,
    signal: stop.signal,
    async lead(leadership) {
      terms.push(leadership);
      await new Promise<void>((resolve) => {
        if (leadership.signal.aborted) return resolve();
        leadership.signal.addEventListener('abort', () => resolve(), { once: true });
      });
    },
    onError: (error) => errors.push(error),
    ...more,
  });
  const made: Contender = {
    terms,
    errors,
    leading: () => terms.find((term) => term.holds()),
    async stop() {
      stop.abort();
      await ended;
    },
  };
  cleaning.after(made.stop);
  return made;
}

const bodyHolder = (request: Seen) => (request.body as { spec?: { holderIdentity?: string } } | undefined)?.spec?.holderIdentity;

test('of two contenders one leads; when it ends it gives the Lease back and the other leads at once', async () => {
  const from = await api();
  const [a, b] = [contender(from, 'a', { annotations: { where: 'n1' } }), contender(from, 'b')];
  const first = await eventually('a leader', () => (a.leading() ? a : b.leading() ? b : undefined));
  const second = first === a ? b : a;
  const written = from.count('PUT', LEASE);
  await eventually('five renewals', () => {
    expect(second.leading()).toBeUndefined();
    return from.count('PUT', LEASE) >= written + 5;
  });
  const transitions = Number(from.get(LEASE)?.spec?.['leaseTransitions']);
  const began = performance.now();
  await first.stop();
  expect(holder(from) === '' || holder(from) === (second === a ? 'a' : 'b')).toBe(true);
  await eventually('the other leads', () => second.leading());
  // Much sooner than the lease would have run out.
  expect(performance.now() - began).toBeLessThan(900);
  expect(first.terms.every((term) => term.signal.aborted && !term.holds())).toBe(true);
  expect(Number(from.get(LEASE)?.spec?.['leaseTransitions'])).toBe(transitions + 1);
});

test('the Lease carries the annotations, whole seconds and times in microseconds', async () => {
  const from = await api();
  from.put(LEASES, { metadata: { name: 'hub', annotations: { kept: 'yes' } }, spec: { holderIdentity: '' } });
  const a = contender(from, 'a', { annotations: { where: 'n1' } });
  await eventually('it leads', () => a.leading());
  const lease = from.get(LEASE);
  expect(lease?.metadata.annotations).toEqual({ kept: 'yes', where: 'n1' });
  expect(lease?.spec).toMatchObject({ holderIdentity: 'a', leaseDurationSeconds: 1, leaseTransitions: 1 });
  expect(lease?.spec?.['renewTime']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
});

test('a leader that cannot renew has stopped before another begins; two never hold at the same time', async () => {
  const from = await api();
  const a = contender(from, 'a');
  await eventually('a leads', () => a.leading());
  const b = contender(from, 'b');
  // From now on a is cut off: what it writes or asks is never answered.
  from.fault((request) => (bodyHolder(request) === 'a' ? 'silence' : undefined));
  let lostAt = 0;
  let wonAt = 0;
  await eventually('b leads', () => {
    const [ofA, ofB] = [a.leading(), b.leading()];
    expect(ofA && ofB).toBeUndefined();
    if (!ofA && lostAt === 0) lostAt = performance.now();
    if (ofB) wonAt = performance.now();
    return wonAt > 0;
  });
  expect(lostAt).toBeGreaterThan(0);
  expect(wonAt - lostAt).toBeGreaterThan(100);
  expect(holder(from)).toBe('b');
});

test('a Lease counts as held for its whole time from when it was first seen, whatever its own times say', async () => {
  const from = await api();
  from.put(LEASES, {
    metadata: { name: 'hub' },
    spec: { holderIdentity: 'dead', leaseDurationSeconds: 1, renewTime: '2001-01-01T00:00:00.000000Z' },
  });
  const began = performance.now();
  const a = contender(from, 'a');
  await eventually('a takes it', () => a.leading());
  expect(performance.now() - began).toBeGreaterThan(950);
});

test('a process that was frozen knows at once, before any timer has fired, that it may not act', async () => {
  const from = await api();
  let holdsAfter: boolean | undefined;
  let abortedAfter: boolean | undefined;
  const a = contender(from, 'a', {
    async lead(leadership) {
      expect(leadership.holds()).toBe(true);
      // No timer and no answer is handled while this goes round.
      for (const until = performance.now() + 450; performance.now() < until; );
      holdsAfter = leadership.holds();
      abortedAfter = leadership.signal.aborted;
    },
  });
  await eventually('the work has looked', () => holdsAfter !== undefined);
  expect(holdsAfter).toBe(false);
  expect(abortedAfter).toBe(false);
  await a.stop();
});

test('regression: leadership was counted from the answer to the acquiring write, so that a slow answer let two lead', async () => {
  const from = await api();
  from.put(LEASES, { metadata: { name: 'hub' }, spec: { holderIdentity: '' } });
  from.fault((request) => (request.method === 'PUT' && bodyHolder(request) === 'a' ? { delay: 500 } : undefined));
  const heldAtStart: boolean[] = [];
  const a = contender(from, 'a', {
    async lead(leadership) {
      heldAtStart.push(leadership.holds());
    },
  });
  await eventually('a thinks that it leads', () => heldAtStart.length > 0);
  expect(heldAtStart[0]).toBe(false);
  await a.stop();
});

test('somebody else in the Lease ends the term; a lost answer to a renewal does not', async () => {
  const from = await api();
  const a = contender(from, 'a');
  const term = await eventually('a leads', () => a.leading());
  let lost = 0;
  const back = from.fault(({ method }) => (method === 'PUT' && lost++ < 3 ? 'lose' : undefined));
  await eventually('renewals after the lost ones', () => lost > 5);
  back();
  expect(term.holds()).toBe(true);
  from.put(LEASES, { metadata: { name: 'hub' }, spec: { holderIdentity: 'usurper', leaseDurationSeconds: 60 } });
  await eventually('the term ends', () => term.signal.aborted);
  expect(holder(from)).toBe('usurper');
});

test('work that fails ends the term and frees the Lease; the next term is tried again', async () => {
  const from = await api();
  let terms = 0;
  const a = contender(from, 'a', {
    async lead(leadership) {
      if (++terms === 1) throw new Error('broken work');
      await new Promise<void>((resolve) => leadership.signal.addEventListener('abort', () => resolve(), { once: true }));
    },
  });
  await eventually('a second term', () => terms === 2);
  expect(a.errors.map(String)).toContain('Error: broken work');
  await a.stop();
  expect(holder(from)).toBe('');
});

test('the Lease is given back only after the work has returned', async () => {
  const from = await api();
  const working = Promise.withResolvers<void>();
  let leads = false;
  const a = contender(from, 'a', {
    lead: async () => {
      leads = true;
      await working.promise;
    },
  });
  await eventually('a leads', () => leads);
  const stopped = a.stop();
  const asked = from.seen.length;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(holder(from)).toBe('a');
  expect(from.seen.slice(asked).filter(({ method }) => method === 'PUT')).toEqual([]);
  working.resolve();
  await stopped;
  expect(holder(from)).toBe('');
});
