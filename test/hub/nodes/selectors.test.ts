import { expect, test } from 'vitest';
import { fromConfigMap, nodeLabel, operationName } from '../../../src/hub/nodes/operations/store.ts';
import { nodeFieldSelector, operationSelectors, parseFieldSelector } from '../../../src/hub/nodes/selectors.ts';
import { StatusError } from '../../../src/kube/status.ts';

const OURS = 'infraops.michael.io/object=operation';
const code = (work: () => unknown) => {
  try {
    work();
  } catch (error) {
    if (error instanceof StatusError) return `${error.status.code} ${error.status.message}`;
    throw error;
  }
  return 'accepted';
};

test('terms of a field selector', () => {
  expect(parseFieldSelector('')).toEqual([]);
  expect(parseFieldSelector('a=1,b==2,c!=3,')).toEqual([
    { field: 'a', operator: '=', value: '1' },
    { field: 'b', operator: '=', value: '2' },
    { field: 'c', operator: '!=', value: '3' },
  ]);
  expect(parseFieldSelector(String.raw`a=x\,y\=z\\`)).toEqual([{ field: 'a', operator: '=', value: String.raw`x,y=z\ `.trim() }]);
  expect(parseFieldSelector('a=')).toEqual([{ field: 'a', operator: '=', value: '' }]);
});

test('regression: a term after a value that ends in an escaped backslash was taken for a part of it', () => {
  expect(parseFieldSelector(String.raw`a=x\\,b=y`).map(({ value }) => value)).toEqual([String.raw`x\ `.trim(), 'y']);
  expect(parseFieldSelector(String.raw`a=x\\\,b`).map(({ value }) => value)).toEqual([String.raw`x\,b`]);
});

test.each(['a', '=1', 'a=1=2', String.raw`a=\x`, String.raw`a=x\ `.trim(), 'a>1', '!=1', `${'a'.repeat(500)}`])(
  'selector %j is refused with 400',
  (text) => {
    expect(code(() => parseFieldSelector(text))).toMatch(/^400 invalid field selector/);
  },
);

test('nodes: the fields of core Nodes go through as they are, others are refused in the words of kube-apiserver', () => {
  expect(nodeFieldSelector('metadata.name=n1,spec.unschedulable!=true')).toBe('metadata.name=n1,spec.unschedulable!=true');
  expect(code(() => nodeFieldSelector('status.phase=x'))).toMatch(/^400 .*field label not supported: status.phase$/);
});

test('operations: fields become labels of the ConfigMaps, and nothing but operations is ever selected', () => {
  expect(operationSelectors('', '')).toEqual({ labelSelector: OURS });
  expect(operationSelectors('a=b,c in (d,e)', 'metadata.name=o1')).toEqual({
    labelSelector: `${OURS},a=b,c in (d,e)`,
    fieldSelector: 'metadata.name=o1',
  });
  expect(operationSelectors('', 'spec.nodeName=n1,spec.action!=Stop,status.phase==Failed')).toEqual({
    labelSelector: `${OURS},infraops.michael.io/node=n1,infraops.michael.io/action!=Stop,infraops.michael.io/phase=Failed`,
  });
  expect(code(() => operationSelectors('', 'spec.hard=true'))).toMatch(/^400 .*field label not supported: spec.hard/);
});

test('a value that no label can have selects nothing, and cannot bring in a selector of its own', () => {
  for (const value of ['a b', String.raw`x\,infraops.michael.io/object\=ledger`, '-', 'ü', 'a'.repeat(64)])
    expect(operationSelectors('', `spec.action=${value}`).labelSelector).toBe(`${OURS},infraops.michael.io/action=no-such-value`);
  expect(operationSelectors('', String.raw`metadata.name=a\,b\=c\\`).fieldSelector).toBe(String.raw`metadata.name=a\,b\=c\\`);
});

test('labels of node names: as they are up to 63 characters, else a digest that fits; different names, different labels', () => {
  const long = (end: string) => `${'a'.repeat(63)}${end}`;
  expect(nodeLabel('a'.repeat(63))).toBe('a'.repeat(63));
  expect(nodeLabel(long('b'))).toMatch(/^sha256-[0-9a-f]{40}$/);
  expect(nodeLabel(long('b'))).not.toBe(nodeLabel(long('c')));
  expect(operationSelectors('', `spec.nodeName=${long('b')}`).labelSelector).toBe(
    `${OURS},infraops.michael.io/node=${nodeLabel(long('b'))}`,
  );
});

const SUBDOMAIN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

test('names of operations are valid, differ without a request id and are the same with one', () => {
  expect(operationName('n1', 'Restart', undefined)).toMatch(/^restart-n1-[0-9a-f]{10}$/);
  expect(operationName('n1', 'Restart', undefined)).not.toBe(operationName('n1', 'Restart', undefined));
  expect(operationName('n1', 'Restart', 'r')).toBe(operationName('n1', 'Restart', 'r'));
  const others = [operationName('n2', 'Restart', 'r'), operationName('n1', 'Stop', 'r'), operationName('n1', 'Restart', 's')];
  expect(new Set([operationName('n1', 'Restart', 'r'), ...others]).size).toBe(4);
  // Node and action are told apart from the id, however they are written.
  expect(operationName('a', 'Stop', 'b')).not.toBe(operationName('a-stop', 'Stop', 'b'));
});

test('regression: an operation on a node with a dot at the 200th character of its name had no valid name', () => {
  for (const name of [`${'a'.repeat(199)}.${'b'.repeat(40)}`, `${'a'.repeat(198)}-.b`, 'a'.repeat(253)]) {
    expect(operationName(name, 'Restart', undefined)).toMatch(SUBDOMAIN);
    expect(operationName(name, 'Restart', 'r').length).toBeLessThanOrEqual(253);
  }
  const start = 'a'.repeat(240);
  expect(operationName(`${start}b`, 'Stop', 'r')).not.toBe(operationName(`${start}c`, 'Stop', 'r'));
});

test.each([
  ['no data', {}],
  ['text that is no JSON', { spec: '{', status: '{}' }],
  ['no node', { spec: '{"action":"Stop"}', status: '{"phase":"Pending"}' }],
  ['no phase', { spec: '{"nodeName":"n1"}', status: '{}' }],
  ['null', { spec: 'null', status: 'null' }],
])('a ConfigMap with %s is told by its name', (_, data) => {
  expect(() => fromConfigMap({ metadata: { name: 'edited', resourceVersion: '1' }, data })).toThrow(
    /^ConfigMap edited does not hold a node operation: /,
  );
});
