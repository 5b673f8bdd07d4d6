import { describe, expect, test } from 'vitest';
import { alreadyRunning } from '../../../../src/hub/nodes/guards/already-running.ts';
import { controlPlaneQuorum as quorumGuard } from '../../../../src/hub/nodes/guards/control-plane-quorum.ts';
import { cooldown } from '../../../../src/hub/nodes/guards/cooldown.ts';
import { disruptionBudgets } from '../../../../src/hub/nodes/guards/disruption-budgets.ts';
import { evaluate } from '../../../../src/hub/nodes/guards/evaluate.ts';
import type { Guard, GuardInput } from '../../../../src/hub/nodes/guards/guard.ts';
import { maxNodesDown, parseNodeBudget } from '../../../../src/hub/nodes/guards/max-nodes-down.ts';
import { ownNode } from '../../../../src/hub/nodes/guards/own-node.ts';
import { uniqueMachine } from '../../../../src/hub/nodes/guards/unique-machine.ts';
import { veto } from '../../../../src/hub/nodes/guards/veto.ts';
import { active, facts, input } from '../facts.ts';

const passes = async (guard: Guard, given: GuardInput) => (await guard.check(given)).passed;
const evidence = async (guard: Guard, given: GuardInput) => (await guard.check(given)).evidence;
const many = (count: number, zone = '') => Array.from({ length: count }, (_, at) => facts(`n${at}`, { zone }));

describe('AlreadyRunning', () => {
  const guard = alreadyRunning((name) => (name === 'locked' ? { holder: 'medik8s', lease: 'medik8s-leases/node-locked' } : undefined));
  test('another node is no matter; the same node is, also for a start', async () => {
    expect(await passes(guard, input([facts('a')], { active: active(facts('b')) }))).toBe(true);
    expect(await passes(guard, input([facts('a')], { active: active(facts('a')) }))).toBe(false);
    expect(await passes(guard, input([facts('a')], { active: active(facts('a')), action: 'Start' }))).toBe(false);
  });
  test('Leases that cannot be read refuse, with what to do', async () => {
    const blind = alreadyRunning(() => ({ hidden: 'no right', remedy: 'give it' }));
    expect(await blind.check(input([facts('a')]))).toEqual({ passed: false, evidence: 'no right', remedy: 'give it' });
  });
  test("somebody else's Lease is named, and nobody may force it", async () => {
    const verdict = await guard.check(input([facts('locked')]));
    expect(verdict).toMatchObject({ passed: false, evidence: 'medik8s holds the Lease medik8s-leases/node-locked' });
    expect(verdict.remedy).toContain('medik8s');
    expect(guard.forceable).toBe(false);
  });
});

describe('ControlPlaneQuorum', () => {
  /** Of the nodes that the test gives it sees what the API server would say. */
  const controlPlaneQuorum: Guard = {
    ...quorumGuard(async () => []),
    check: (given) => quorumGuard(async () => [...given.nodes()].filter((node) => node.controlPlane)).check(given),
  };
  const plane = (count: number) => Array.from({ length: count }, (_, at) => facts(`cp${at}`, { controlPlane: true }));
  test.each([
    [1, false],
    [2, false],
    [3, true],
    [4, true],
    [5, true],
  ])('of %i healthy control-plane nodes one may go: %s', async (count, allowed) => {
    expect(await passes(controlPlaneQuorum, input(plane(count)))).toBe(allowed);
  });
  test('the only one is refused with words of its own', async () => {
    expect(await evidence(controlPlaneQuorum, input(plane(1)))).toBe('it is the only control-plane node');
  });
  test('one at a time: while another is not Ready, unknown or operated on, also with a quorum to spare', async () => {
    for (const ready of ['False', 'Unknown'] as const) {
      const [first, second, ...rest] = plane(5);
      if (!first || !second) throw new Error('five nodes');
      expect(await passes(controlPlaneQuorum, input([first, { ...second, ready }, ...rest]))).toBe(false);
    }
    const nodes = plane(5);
    expect(await passes(controlPlaneQuorum, input(nodes, { active: active(...nodes.slice(1, 2)) }))).toBe(false);
  });
  test('the node itself being down does not count against it', async () => {
    const [first, ...rest] = plane(3);
    if (!first) throw new Error('three nodes');
    expect(await passes(controlPlaneQuorum, input([{ ...first, ready: 'False' }, ...rest]))).toBe(true);
  });
  test('what the API server says now counts, not the copy: an answer that does not come refuses', async () => {
    const nodes = plane(3);
    const now = nodes.map((node, at) => (at === 2 ? { ...node, ready: 'False' as const } : node));
    expect(
      await evidence(
        quorumGuard(async () => now),
        input(nodes),
      ),
    ).toContain('control-plane node cp2 is down');
    const away = quorumGuard(() => Promise.reject(new Error('no answer')));
    expect((await evaluate([away], input(nodes), false)).refused).toHaveLength(1);
    expect(await passes(away, input([facts('worker'), ...nodes]))).toBe(true);
  });
  test('workers and starts are let through, whatever the control plane does', async () => {
    const down = plane(1).map((node) => ({ ...node, ready: 'False' as const }));
    expect(await passes(controlPlaneQuorum, input([facts('worker'), ...down]))).toBe(true);
    expect(await passes(controlPlaneQuorum, input(plane(1), { action: 'Start' }))).toBe(true);
  });
});

describe('MaxNodesDown', () => {
  const unlimited = { percent: 100 };
  test.each([
    [{ count: 1 }, 10, 0, true],
    [{ count: 1 }, 10, 1, false],
    [{ count: 3 }, 10, 2, true],
    [{ count: 3 }, 10, 3, false],
    [{ percent: 10 }, 1, 0, true],
    [{ percent: 10 }, 9, 0, true],
    [{ percent: 10 }, 9, 1, false],
    [{ percent: 10 }, 19, 1, false],
    [{ percent: 10 }, 20, 1, true],
    [{ percent: 50 }, 5, 1, true],
    [{ percent: 50 }, 5, 2, false],
    [{ percent: 100 }, 5, 4, true],
  ])('%j of %i nodes, %i down: %s', async (budget, total, down, allowed) => {
    const nodes = many(total).map((node, at) => (at > 0 && at <= down ? { ...node, ready: 'False' as const } : node));
    expect(await passes(maxNodesDown(budget, unlimited), input(nodes))).toBe(allowed);
  });
  test('not Ready, unknown and operated on count once each; the node itself never', async () => {
    const nodes = many(10);
    const [own, a, b] = nodes;
    if (!own || !a || !b) throw new Error('ten nodes');
    const unknown = nodes.map((node) => (node === a ? { ...node, ready: 'Unknown' as const } : node));
    const guard = maxNodesDown({ count: 2 }, unlimited);
    expect(await passes(guard, input(unknown, { active: active(a) }))).toBe(true);
    expect(await passes(guard, input(unknown, { active: active(a, b) }))).toBe(false);
    const selfDown = nodes.map((node) => (node === own ? { ...node, ready: 'False' as const } : node));
    expect(await passes(maxNodesDown({ count: 1 }, unlimited), input(selfDown))).toBe(true);
  });
  test('the zone has a budget of its own; nodes without a zone have none', async () => {
    const nodes = [...many(4, 'z1'), ...many(4, 'z2').map((node) => ({ ...node, name: `other-${node.name}` }))];
    const [, second] = nodes;
    const far = nodes.at(-1);
    if (!second || !far) throw new Error('eight nodes');
    const guard = maxNodesDown(unlimited, { count: 1 });
    expect(await passes(guard, input(nodes, { active: active(far) }))).toBe(true);
    const refused = await guard.check(input(nodes, { active: active(second) }));
    expect(refused.evidence).toBe('1 of 4 nodes of zone z1 are down or being operated on; at most 1 may be');
    const zoneless = many(4);
    expect(await passes(guard, input(zoneless, { active: active(...zoneless.slice(1)) }))).toBe(true);
  });
  test('a start is let through', async () => {
    const nodes = many(3).map((node) => ({ ...node, ready: 'False' as const }));
    expect(await passes(maxNodesDown({ count: 1 }, { count: 1 }), input(nodes, { action: 'Start' }))).toBe(true);
  });
  test.each(['', '0', '-1', '0%', '101%', '1.5', '10 %', '1e3', '10%%', '1234567', 'all'])('budget %j is refused', (text) => {
    expect(() => parseNodeBudget(text)).toThrow(/must be a number of nodes from 1 on, or a percentage/);
  });
  test('budgets', () => {
    expect([parseNodeBudget('3'), parseNodeBudget('1%'), parseNodeBudget('100%')]).toEqual([
      { count: 3 },
      { percent: 1 },
      { percent: 100 },
    ]);
  });
});

describe('Cooldown', () => {
  const guard = cooldown(300_000);
  const now = new Date('2026-01-01T12:00:00Z');
  const restarted = (time: string) => input([facts('a', { lastRestart: { time, requestedBy: 'eve' } })], { now });
  test('before its end and after it, to the millisecond', async () => {
    expect(await passes(guard, restarted('2026-01-01T11:55:00.001Z'))).toBe(false);
    expect(await passes(guard, restarted('2026-01-01T11:55:00.000Z'))).toBe(true);
    expect(await passes(guard, input([facts('a')], { now }))).toBe(true);
  });
  test('a restart in the future counts as just now, not as long ago', async () => {
    const verdict = await guard.check(restarted('2026-01-02T12:00:00Z'));
    expect(verdict).toEqual({ passed: false, evidence: 'the node was restarted 0 s ago by eve; the pause is 300 s', remedy: 'wait 300 s' });
  });
  test('0 turns it off, also for a restart in the future; a start does not wait', async () => {
    expect(await passes(cooldown(0), restarted('2026-01-02T12:00:00Z'))).toBe(true);
    expect(await passes(guard, { ...restarted('2026-01-01T11:59:59Z'), spec: input([facts('a')], { action: 'Start' }).spec })).toBe(true);
  });
});

describe('Veto', () => {
  test('its words are the evidence, shortened; an empty one is a veto too', async () => {
    expect(await passes(veto, input([facts('a')]))).toBe(true);
    expect(await evidence(veto, input([facts('a', { veto: 'backup runs' })]))).toContain('says: backup runs');
    expect(await evidence(veto, input([facts('a', { veto: '' })]))).toContain('(no reason given)');
    expect((await evidence(veto, input([facts('a', { veto: 'x'.repeat(5_000) })]))).length).toBeLessThan(350);
    expect((await veto.check(input([facts('a', { veto: '' })]))).remedy).toBe('kubectl annotate node a infraops.michael.io/veto-');
    expect(await passes(veto, input([facts('a', { veto: '' })], { action: 'Start' }))).toBe(true);
  });
});

describe('OwnNode', () => {
  const guard = ownNode(() => ['hub-node', 'leader-node']);
  test("this replica's node and the leader's, but not for a start", async () => {
    expect(await passes(guard, input([facts('other')]))).toBe(true);
    expect(await passes(guard, input([facts('hub-node')]))).toBe(false);
    expect(await passes(guard, input([facts('leader-node')], { action: 'Stop' }))).toBe(false);
    expect(await passes(guard, input([facts('hub-node')], { action: 'Start' }))).toBe(true);
  });
});

describe('UniqueMachine', () => {
  test('R18: two nodes with one machine are both refused, and nobody may force it', async () => {
    const guard = uniqueMachine((name) => (name === 'alone' ? ['alone'] : ['a', 'b']));
    expect(await passes(guard, input([facts('alone')]))).toBe(true);
    expect(await evidence(guard, input([facts('a')]))).toBe('node b claims the same machine in spec.providerID');
    expect(await evidence(guard, input([facts('b')], { action: 'Start' }))).toContain('node a');
    expect(guard).toMatchObject({ forceable: false, recheck: true });
  });
});

describe('DisruptionBudgets', () => {
  const budget = (name: string) => ({ namespace: 'ns', name, pod: `${name}-0` });
  test('asked for a Ready node without draining only', async () => {
    let asked = 0;
    const guard = disruptionBudgets(async () => {
      asked++;
      return [budget('db')];
    });
    expect(await passes(guard, input([facts('a')], { spec: { drain: true } }))).toBe(true);
    expect(await passes(guard, input([facts('a', { ready: 'False' })]))).toBe(true);
    expect(await passes(guard, input([facts('a')], { action: 'Start' }))).toBe(true);
    expect(asked).toBe(0);
    expect(await evidence(guard, input([facts('a')]))).toBe('a disruption budget allows no disruption now: ns/db (pod db-0)');
  });
  test('regression: with a pod selector that selects nothing, draining let the machine go down under exhausted budgets', async () => {
    const selectors: (string | undefined)[] = [];
    const guard = disruptionBudgets(async (_node, drained) => {
      selectors.push(drained);
      return [budget('db')];
    });
    const verdict = await guard.check(input([facts('a')], { spec: { drain: true, podSelector: 'none=matches' } }));
    expect(verdict).toMatchObject({ passed: false, remedy: expect.stringContaining('without --pod-selector') });
    // A selector without draining says nothing, and an empty one selects all.
    expect(await passes(guard, input([facts('a')], { spec: { podSelector: 'a=b' } }))).toBe(false);
    expect(await passes(guard, input([facts('a')], { spec: { drain: true, podSelector: '' } }))).toBe(true);
    expect(selectors).toEqual(['none=matches', undefined]);
  });
  test('of many only three are named', async () => {
    const guard = disruptionBudgets(async () => ['a', 'b', 'c', 'd'].map(budget));
    expect(await evidence(guard, input([facts('a')]))).toBe(
      '4 disruption budgets allow no disruption now: ns/a (pod a-0), ns/b (pod b-0), ns/c (pod c-0), …',
    );
    expect(
      await passes(
        disruptionBudgets(async () => []),
        input([facts('a')]),
      ),
    ).toBe(true);
  });
});

describe('evaluate', () => {
  const guard = (name: string, passed: boolean, forceable = true): Guard => ({
    name,
    forceable,
    recheck: false,
    check: () => ({ passed, evidence: name.toLowerCase(), remedy: 'do' }),
  });
  const broken: Guard = { name: 'Broken', forceable: true, recheck: false, check: () => Promise.reject(new Error('no answer')) };

  test('every guard is asked, also after a refusal, and a guard that fails refuses', async () => {
    const { results, refused, skipped } = await evaluate([guard('A', false), guard('B', true), broken], input([facts('a')]), false);
    expect(results.map((result) => [result.guard, result.passed])).toEqual([
      ['A', false],
      ['B', true],
      ['Broken', false],
    ]);
    expect(refused.map((result) => result.guard)).toEqual(['A', 'Broken']);
    expect(refused[1]?.message).toBe('could not be checked: no answer');
    expect(skipped).toEqual([]);
  });
  test('a guard that throws at once refuses too', async () => {
    const throwing: Guard = {
      ...broken,
      check() {
        throw 'text';
      },
    };
    expect((await evaluate([throwing], input([facts('a')]), false)).refused).toHaveLength(1);
  });
  test('force skips what can be forced and nothing else', async () => {
    const { refused, skipped } = await evaluate(
      [guard('A', false), guard('Hard', false, false), guard('B', true)],
      input([facts('a')]),
      true,
    );
    expect(refused.map((result) => result.guard)).toEqual(['Hard']);
    expect(skipped.map((result) => result.guard)).toEqual(['A']);
  });
});
