import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { yamlText } from '../../../src/hub/http/yaml-text.ts';
import { times } from '../../support/counts.ts';

test('looks like what kubectl prints', () => {
  const object = {
    apiVersion: 'infraops.michael.io/v1',
    metadata: { name: 'a', labels: {}, skipped: undefined, finalizers: [] },
    spec: { on: 'yes', count: 3, ready: null, lists: [['a', 1], [{ x: 1, y: [true] }], {}] },
  };
  expect(yamlText(object)).toBe(`apiVersion: infraops.michael.io/v1
metadata:
  name: a
  labels: {}
  finalizers: []
spec:
  "on": "yes"
  count: 3
  ready: null
  lists:
  - - a
    - 1
  - - x: 1
      "y":
      - true
  - {}
`);
});

test('an exponent alone is quoted, a name that begins like one is not', () => {
  expect(yamlText(['e0', 'E10', 'e-5', 'e2e', 'e-a', 'e'])).toBe('- "e0"\n- "E10"\n- "e-5"\n- e2e\n- e-a\n- e\n');
});

test.each(['1.2', '1.1'] as const)('YAML %s reads back the very same value', (version) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string(),
    fc.constantFrom('yes', 'No', '~', '', '1e3', 'e0', 'E-5', '- a', 'a: b', '#', '<<', '2001-01-01', '.inf', 'null', '\u2028', '\n  x\n'),
  );
  const key = text.filter((name) => name !== '__proto__' && name !== '<<');
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      fc.boolean(),
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constant(null),
      text,
      tie('list'),
      tie('map'),
    ),
    list: fc.array(tie('tree'), { maxLength: 4 }),
    map: fc.dictionary(key, tie('tree'), { maxKeys: 4, noNullPrototype: true }),
  }));
  fc.assert(
    fc.property(tree, (value) => {
      // JSON knows no -0, and lone surrogates have no UTF-8.
      const plain: unknown = JSON.parse(Buffer.from(JSON.stringify(value)).toString());
      expect(parse(yamlText(plain), { version })).toEqual(plain);
    }),
    { numRuns: times(1_000, 100_000) },
  );
});
