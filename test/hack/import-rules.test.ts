import { describe, expect, test } from 'vitest';
import { checkImports, importsOf } from '../../hack/imports/check.ts';

const packages = { dependencies: ['express', '@kubernetes/client-node'], devDependencies: ['vitest'] };
const check = (files: Record<string, string>) => checkImports(new Map(Object.entries(files)), packages);

test('finds every form of import', () => {
  const source = [
    "import a from 'a';",
    "import type { B } from './b.ts';",
    'import {',
    '  c,',
    '  type C,',
    "} from './c.ts';",
    "import './d.ts';",
    "export { e } from './e.ts';",
    "export type { F } from './f.ts';",
    "const g = await import('./g.ts');",
    "// import no from './comment.ts';",
    "const text = 'from nowhere';",
  ].join('\n');
  expect(
    importsOf(source)
      .map(({ specifier, typeOnly }) => `${specifier}${typeOnly ? ' type' : ''}`)
      .sort(),
  ).toEqual(['./b.ts type', './c.ts', './d.ts', './e.ts', './f.ts type', './g.ts', 'a'].sort());
});

describe('allowed', () => {
  test.each([
    ['own files', { 'src/hub/nodes/a.ts': "import { b } from './guards/b.ts';" }],
    ['src/kube', { 'src/agent/a.ts': "import { b } from '../kube/b.ts';" }],
    ['the tunnel in hub/sockets', { 'src/hub/sockets/a.ts': "import { b } from '../../tunnel/b.ts';" }],
    ['all rooms of the hub in server.ts', { 'src/hub/server.ts': "import { b } from './nodes/b.ts';" }],
    ['the type of a user', { 'src/hub/nodes/a.ts': "import type { User } from '../auth/user.ts';" }],
    ['run-time packages and node:', { 'src/hub/a.ts': "import e from 'express';\nimport { b } from 'node:fs';" }],
    ['development packages in tests', { 'test/a.test.ts': "import { test } from 'vitest';" }],
    ['circles of types', { 'src/kube/a.ts': "import type { b } from './b.ts';", 'src/kube/b.ts': "import { a } from './a.ts';" }],
  ])('%s', (_name, files) => {
    expect(check(files as Record<string, string>)).toEqual([]);
  });
});

describe('refused', () => {
  test.each([
    ['agent from hub', { 'src/agent/a.ts': "import { b } from '../hub/nodes/b.ts';" }, 'src/agent/a.ts:1 imports src/hub/nodes/b.ts'],
    ['types of the agent in the hub', { 'src/hub/a.ts': "import type { B } from '../agent/b.ts';" }, 'imports src/agent/b.ts'],
    ['a room from another', { 'src/hub/nodes/a.ts': "import { b } from '../clusters/b.ts';" }, 'imports src/hub/clusters/b.ts'],
    ['the tunnel in hub/nodes', { 'src/hub/nodes/a.ts': "import { b } from '../../tunnel/b.ts';" }, 'imports src/tunnel/b.ts'],
    ['a room from server.ts', { 'src/hub/nodes/a.ts': "import { b } from '../server.ts';" }, 'imports src/hub/server.ts'],
    ['values beside a user', { 'src/hub/nodes/a.ts': "import { b } from '../auth/user.ts';" }, 'may only import types'],
    ['tests from the product', { 'src/kube/a.ts': "import { b } from '../../test/b.ts';" }, 'imports test/b.ts'],
    ['the product from the lab', { 'e2e/lab/a.ts': "import { b } from '../../src/kube/b.ts';" }, 'imports src/kube/b.ts'],
    ['development packages in the product', { 'src/hub/a.ts': "import { test } from 'vitest';" }, 'not in the run-time dependencies'],
    ['unknown packages', { 'test/a.ts': "import a from 'left-pad';" }, 'the package left-pad'],
    ['builtins without node:', { 'src/hub/a.ts': "import { b } from 'fs';" }, 'must be written node:fs'],
    [
      'circles',
      { 'src/kube/a.ts': "import { b } from './b.ts';", 'src/kube/b.ts': "import { a } from './a.ts';" },
      'circular import: src/kube/a.ts ->',
    ],
  ])('%s', (_name, files, message) => {
    const violations = check(files as Record<string, string>);
    expect(violations).toHaveLength(1);
    expect(violations[0]).toContain(message);
  });
});
