import fc from 'fast-check';
import { expect, test } from 'vitest';
import { evaluate } from '../../../../src/hub/nodes/guards/evaluate.ts';
import type { ActiveOperation } from '../../../../src/hub/nodes/guards/guard.ts';
import { maxNodesDown } from '../../../../src/hub/nodes/guards/max-nodes-down.ts';
import { type Decision, LEDGER_NAME, type Ledger, operationLedger } from '../../../../src/hub/nodes/operations/ledger.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { type KubeApi, kubeApi } from '../../../support/kube-api.ts';
import { eventually } from '../../auth/eventually.ts';
import { active, facts, input } from '../facts.ts';

const MAPS = '/api/v1/namespaces/x/configmaps';
const PATH = `${MAPS}/${LEDGER_NAME}`;
const cleaning = cleanUp();

async function api(): Promise<KubeApi> {
  const made = await kubeApi();
  cleaning.after(made.close);
  return made;
}
const stored = (from: KubeApi) => JSON.parse(from.get(PATH)?.data?.['active'] ?? '[]') as ActiveOperation[];
const names = (from: KubeApi) =>
  stored(from)
    .map(({ name }) => name)
    .sort();
const entry = (name: string): ActiveOperation => ({ name, node: name, zone: '', controlPlane: false, action: 'Restart' });
const yes = async (): Promise<Decision<string>> => ({ admit: true, value: 'in' });
const atMost = (limit: number) => async (others: readonly ActiveOperation[]) => ({
  admit: others.length < limit,
  value: others.length < limit,
});
const put = (from: KubeApi, ...entries: string[]) =>
  from.put(MAPS, { metadata: { name: LEDGER_NAME }, data: { active: JSON.stringify(entries.map(entry)) } });

test('what is admitted stands in one ConfigMap until it is removed; a refusal writes nothing', async () => {
  const from = await api();
  const ledger = operationLedger(from.client, 'x');
  expect(await ledger.admit(entry('a'), yes)).toBe('in');
  expect(stored(from)).toEqual([entry('a')]);
  expect(from.get(PATH)?.metadata.labels).toMatchObject({ 'infraops.michael.io/object': 'ledger' });
  const version = from.version();
  expect(await ledger.admit(entry('b'), async () => ({ admit: false, value: 'out' }))).toBe('out');
  expect(from.version()).toBe(version);
  expect(ledger.active()).toEqual([entry('a')]);
  await ledger.remove(['a', 'never-there']);
  expect([names(from), ledger.active()]).toEqual([[], []]);
});

test('requests that come while a write is under way share the next one', async () => {
  const from = await api();
  const ledger = operationLedger(from.client, 'x');
  await Promise.all(Array.from({ length: 100 }, (_, at) => ledger.admit(entry(`n${at}`), yes)));
  expect(names(from)).toHaveLength(100);
  expect(from.seen.filter(({ method }) => method !== 'GET').length).toBeLessThanOrEqual(3);
});

test('within one batch each decision sees those before it', async () => {
  const from = await api();
  const ledger = operationLedger(from.client, 'x');
  const admitted = await Promise.all(Array.from({ length: 30 }, (_, at) => ledger.admit(entry(`n${at}`), atMost(7))));
  expect(admitted.filter(Boolean)).toHaveLength(7);
  expect(names(from)).toHaveLength(7);
});

test('a decision that throws fails its own request only', async () => {
  const from = await api();
  const ledger = operationLedger(from.client, 'x');
  const [a, bad, b] = await Promise.allSettled([
    ledger.admit(entry('a'), yes),
    ledger.admit(entry('bad'), () => Promise.reject(new Error('undecided'))),
    ledger.admit(entry('b'), yes),
  ]);
  expect([a.status, bad.status, b.status]).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(names(from)).toEqual(['a', 'b']);
});

test('a refusal is judged again on what is true now, when another replica has changed it', async () => {
  const from = await api();
  const [one, two] = [operationLedger(from.client, 'x'), operationLedger(from.client, 'x')];
  await one.admit(entry('a'), yes);
  expect(await two.admit(entry('b'), atMost(1))).toBe(false);
  await one.remove(['a']);
  // `two` still knows `a`; its refusal would be wrong.
  expect(two.active()).toEqual([entry('a')]);
  expect(await two.admit(entry('b'), atMost(1))).toBe(true);
  expect(names(from)).toEqual(['b']);
});

test('an admission on an old copy fails its compare-and-swap and is judged anew', async () => {
  const from = await api();
  const [one, two] = [operationLedger(from.client, 'x'), operationLedger(from.client, 'x')];
  await one.admit(entry('a'), yes);
  await two.admit(entry('b'), yes);
  // `one` does not know of b.
  let asked = 0;
  expect(
    await one.admit(entry('c'), (others) => {
      asked++;
      return atMost(2)(others);
    }),
  ).toBe(false);
  expect(asked).toBeGreaterThan(1);
  expect(names(from)).toEqual(['a', 'b']);
});

test('a lost answer does not enter twice and does not lose the entry', async () => {
  const from = await api();
  const ledger = operationLedger(from.client, 'x');
  for (const method of ['POST', 'PUT']) {
    let lost = 0;
    const back = from.fault((request) => (request.method === method && lost++ < 2 ? 'lose' : undefined));
    expect(await ledger.admit(entry(method.toLowerCase()), yes)).toBe('in');
    back();
    expect(lost).toBeGreaterThan(0);
  }
  expect(names(from)).toEqual(['post', 'put']);
});

test('an API server that stays away is an error after a bounded time, and the next request works again', { timeout: 30_000 }, async () => {
  const from = await api();
  const ledger = operationLedger(from.client, 'x');
  const back = from.fault(({ method }) => (method === 'GET' ? undefined : 'refuse'));
  await expect(ledger.admit(entry('a'), yes)).rejects.toThrow();
  expect(from.seen.length).toBeLessThan(100);
  back();
  expect(await ledger.admit(entry('b'), yes)).toBe('in');
});

test.each(['{"no":"list"}', 'no JSON'])('a ledger edited to %j lets nothing through', async (active) => {
  const from = await api();
  from.put(MAPS, { metadata: { name: LEDGER_NAME }, data: { active } });
  const ledger = operationLedger(from.client, 'x');
  await expect(ledger.admit(entry('a'), yes)).rejects.toThrow();
  expect(from.get(PATH)?.data?.['active']).toBe(active);
});

test('observe takes in what is newer, not what is older, and a deletion', async () => {
  const from = await api();
  const ledger = operationLedger(from.client, 'x');
  const old = put(from, 'old');
  const recent = put(from, 'recent');
  ledger.observe(recent);
  ledger.observe(old);
  expect(ledger.active().map(({ name }) => name)).toEqual(['recent']);
  ledger.observe(undefined);
  expect(ledger.active()).toEqual([]);
  expect(await ledger.admit(entry('a'), async (others) => ({ admit: false, value: others.map(({ name }) => name) }))).toEqual(['recent']);
});

test('regression: a request that came just when the last write was told could wait for ever', async () => {
  const from = await api();
  const ledger = operationLedger(from.client, 'x');
  for (let ticks = 0; ticks < 16; ticks++) {
    await ledger.admit(entry('a'), yes);
    for (let at = 0; at < ticks; at++) await null;
    let done = false;
    const removed = ledger.remove(['a']).then(() => {
      done = true;
    });
    await eventually(`the removal ${ticks} ticks later`, () => done, 2_000);
    await removed;
  }
});

type Step = { replica: number; node: number; action: 'admit' | 'remove' };
const steps = fc.array(fc.record<Step>({ replica: fc.nat(1), node: fc.nat(9), action: fc.constantFrom('admit', 'admit', 'remove') }), {
  minLength: 1,
  maxLength: 40,
});

test('property: two replicas that race, with lost answers, never together admit more than the guards allow', {
  timeout: 60_000,
}, async () => {
  const nodes = Array.from({ length: 10 }, (_, at) => facts(`n${at}`, { zone: `z${at % 2}` }));
  await fc.assert(
    fc.asyncProperty(
      steps,
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 3 }),
      fc.nat(4),
      async (all, cluster, zone, loseEvery) => {
        const from = await kubeApi();
        try {
          const guards = [maxNodesDown({ count: cluster }, { count: zone })];
          const ledgers: Ledger[] = [operationLedger(from.client, 'x'), operationLedger(from.client, 'x')];
          let writes = 0;
          from.fault(({ method }) => (method !== 'GET' && loseEvery > 0 && ++writes % (loseEvery + 2) === 0 ? 'lose' : undefined));
          const judge = (at: number) => async (others: readonly ActiveOperation[]) => {
            const [node] = nodes.slice(at);
            if (!node) throw new Error('no node');
            const { refused } = await evaluate(guards, { ...input([node]), nodes: () => nodes, active: others }, false);
            return { admit: refused.length === 0 && !others.some((other) => other.node === node.name), value: refused.length === 0 };
          };
          const broken: string[] = [];
          const check = () => {
            const now = stored(from);
            const perZone = Math.max(...['z0', 'z1'].map((name) => now.filter((operation) => operation.zone === name).length));
            if (now.length > cluster || perZone > zone) broken.push(`${now.length} of ${cluster}, ${perZone} of ${zone}`);
            if (new Set(now.map(({ node }) => node)).size !== now.length) broken.push('two operations on one node');
          };
          await Promise.all(
            all.map(async ({ replica, node, action }) => {
              const ledger = ledgers[replica];
              const [own] = active(...nodes.slice(node, node + 1));
              if (!ledger || !own) throw new Error('no such replica or node');
              if (action === 'admit') await ledger.admit({ ...own, name: `${own.name}-${replica}` }, judge(node));
              else await ledger.remove([`${own.name}-${replica}`]);
              check();
            }),
          );
          expect(broken).toEqual([]);
        } finally {
          await from.close();
        }
      },
    ),
    { numRuns: 40 },
  );
});
