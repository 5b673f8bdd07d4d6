import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const PASS_BUFFERS = `
  const { PerformanceObserver, constants } = await import('node:perf_hooks');
  let major = 0;
  new PerformanceObserver((list) => { for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) major++; }).observe({ entryTypes: ['gc'] });
  const alive = Array.from({ length: 200_000 }, (_, at) => ({ at }));
  const queue = [];
  for (let round = 0; round < 1_200; round++) {
    for (let at = 0; at < 64; at++) { queue.push(Buffer.allocUnsafeSlow(16_384)); if (queue.length > 64) queue.shift(); }
    await new Promise(setImmediate);
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  console.log(JSON.stringify({ major, alive: alive.length }));`;

function majorCollections(tuned: boolean): number {
  const file = join(import.meta.dirname, '../../src/kube/heap-growth.ts');
  const script = `${tuned ? `(await import(${JSON.stringify(file)})).tuneHeapGrowth();` : ''}${PASS_BUFFERS}`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 60_000 });
  if (!stdout.startsWith('{')) throw new Error(stderr);
  return (JSON.parse(stdout) as { major: number }).major;
}

test('1.2 GB of buffers passing through cost few collections of the whole heap, and many without the setting', () => {
  const [without, tuned] = [majorCollections(false), majorCollections(true)];
  expect(without).toBeGreaterThan(10);
  expect(tuned).toBeLessThan(without / 3);
});
