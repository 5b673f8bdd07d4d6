import { expect, test } from 'vitest';
import { exhaustedBudgets, matches } from '../../../../src/hub/nodes/guards/exhausted-budgets.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';
import { eventually } from '../../auth/eventually.ts';
import { clockAhead } from '../clock-ahead.ts';

const cleaning = cleanUp();
const labels = { app: 'db', tier: 'back' };

test.each([
  ['absent selects nothing', undefined, false],
  ['empty selects everything', {}, true],
  ['matchLabels', { matchLabels: { app: 'db' } }, true],
  ['matchLabels, one of two', { matchLabels: { app: 'db', tier: 'front' } }, false],
  ['In', { matchExpressions: [{ key: 'app', operator: 'In', values: ['x', 'db'] }] }, true],
  ['In, other value', { matchExpressions: [{ key: 'app', operator: 'In', values: ['x'] }] }, false],
  ['In, no such label', { matchExpressions: [{ key: 'none', operator: 'In', values: ['x'] }] }, false],
  ['NotIn', { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['db'] }] }, false],
  ['NotIn, no such label', { matchExpressions: [{ key: 'none', operator: 'NotIn', values: ['db'] }] }, true],
  ['Exists', { matchExpressions: [{ key: 'tier', operator: 'Exists' }] }, true],
  ['Exists, no such label', { matchExpressions: [{ key: 'none', operator: 'Exists' }] }, false],
  ['DoesNotExist', { matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }] }, false],
  ['DoesNotExist, no such label', { matchExpressions: [{ key: 'none', operator: 'DoesNotExist' }] }, true],
  ['an unknown operator counts as selecting', { matchExpressions: [{ key: 'tier', operator: 'Gt', values: ['1'] }] }, true],
  ['all must hold', { matchLabels: { app: 'db' }, matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }] }, false],
])('selector: %s', (_, selector, selected) => {
  expect(matches(selector, labels)).toBe(selected);
});

const BUDGETS = (namespace: string) => `/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`;
const PODS = (namespace: string) => `/api/v1/namespaces/${namespace}/pods`;

async function setUp() {
  const api = await kubeApi();
  cleaning.after(api.close);
  const pod = (namespace: string, name: string, node: string, phase = 'Running') =>
    api.put(PODS(namespace), { metadata: { name, labels }, spec: { nodeName: node }, status: { phase } });
  const budget = (namespace: string, name: string, disruptionsAllowed: number, expectedPods = 2) =>
    api.put(BUDGETS(namespace), {
      metadata: { name },
      spec: { selector: { matchLabels: { app: 'db' } } },
      status: { disruptionsAllowed, expectedPods },
    });
  return { api, pod, budget };
}

test('only exhausted budgets, only their pods, only on the node, only in their namespace', async () => {
  const { api, pod, budget } = await setUp();
  budget('a', 'tight', 0);
  budget('b', 'loose', 1);
  budget('c', 'without-pods', 0, 0);
  pod('a', 'on-n1', 'n1');
  pod('b', 'on-n1', 'n1');
  pod('c', 'on-n1', 'n1');
  pod('a', 'finished', 'n2', 'Succeeded');
  pod('d', 'elsewhere', 'n3');
  const signal = cleaning.signal();
  const { find, cache } = exhaustedBudgets(api.client, signal, () => undefined);
  await cache.ready(signal);
  expect(await find('n1')).toEqual([{ namespace: 'a', name: 'tight', pod: 'on-n1' }]);
  expect(await find('n2')).toEqual([]);
  expect(await find('n3')).toEqual([]);
});

test('pods that draining evicts are left out: their evictions ask the budgets', async () => {
  const { api, pod, budget } = await setUp();
  budget('a', 'tight', 0);
  pod('a', 'db-0', 'n1');
  const other = {
    metadata: { name: 'db-1', labels: { ...labels, tier: 'front' } },
    spec: { nodeName: 'n1' },
    status: { phase: 'Running' },
  };
  api.put(PODS('a'), other);
  const signal = cleaning.signal();
  const { find, cache } = exhaustedBudgets(api.client, signal, () => undefined);
  await cache.ready(signal);
  expect(await find('n1', 'tier=back')).toMatchObject([{ pod: 'db-1' }]);
  expect(await find('n1', 'tier in (back,front)')).toEqual([]);
  expect(await find('n1', 'none=matches')).toMatchObject([{ pod: 'db-0' }]);
});

test('no exhausted budget: pods are not even asked for', async () => {
  const { api, budget } = await setUp();
  budget('b', 'loose', 1);
  const signal = cleaning.signal();
  const { find, cache } = exhaustedBudgets(api.client, signal, () => undefined);
  await cache.ready(signal);
  expect(await find('n1')).toEqual([]);
  expect(api.count('GET', '/pods')).toBe(0);
});

test('budgets that have not been read, and pods that cannot be, are errors: nothing is let through', async () => {
  const { api, budget } = await setUp();
  budget('a', 'tight', 0);
  const back = api.fault(({ path }) => (path.includes('poddisruptionbudgets') ? { code: 500 } : undefined));
  const signal = cleaning.signal();
  const { find, cache } = exhaustedBudgets(api.client, signal, () => undefined);
  await expect(find('n1')).rejects.toThrow('not been read yet');
  back();
  await cache.ready(signal);
  api.fault(({ path }) => (path === '/api/v1/pods' ? { code: 503 } : undefined));
  await expect(find('n1')).rejects.toThrow('fault 503');
});

test('regression: budgets whose watch had been broken for long were believed', async () => {
  const { api, budget } = await setUp();
  budget('b', 'loose', 1);
  const errors: unknown[] = [];
  const signal = cleaning.signal();
  const { find, cache } = exhaustedBudgets(api.client, signal, (error) => errors.push(error));
  await cache.ready(signal);
  await eventually('the watch', () => api.watches() === 1);
  api.fault(({ path }) => (path.includes('poddisruptionbudgets') ? { code: 503 } : undefined));
  api.endWatches();
  await eventually('trouble', () => errors.length > 0);
  expect(await find('n1')).toEqual([]);
  cleaning.after(clockAhead(6_000));
  await expect(find('n1')).rejects.toThrow("the hub's copy of the disruption budgets could not be followed for 6 s: fault 503");
});
