import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { NODE_FLAGS } from '../../src/kube/node-flags.ts';

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

test('the image and the unit for a machine beside a cluster give Node.js the same flags as the executables', () => {
  const entry = /^ENTRYPOINT (\[.*\])$/m.exec(read('Dockerfile'))?.[1] ?? '[]';
  const [node, ...rest] = JSON.parse(entry) as string[];
  expect([node, ...rest.slice(0, -1)]).toEqual(['/usr/local/bin/node', ...NODE_FLAGS]);
  const started = /^ExecStart=(\S+) (.*) \S+\.mjs /m.exec(read('deploy/agent/out-of-cluster/fairlead-agent.service'));
  expect(started?.[2]).toBe(NODE_FLAGS.join(' '));
});
