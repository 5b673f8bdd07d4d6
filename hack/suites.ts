import type { TestCase, TestModule } from 'vitest/node';
import { startVitest } from 'vitest/node';

export type Tally = { passed: number; failed: number; skipped: number };

const prefix = (module: TestModule, name: string) => `${module.relativeModuleId} > ${name}`;

function tallyTest(module: TestModule, one: TestCase, tally: Tally): void {
  const result = one.result();
  if (result.state === 'passed') tally.passed++;
  else if (result.state === 'skipped' && result.note) {
    tally.skipped++;
    console.log(`SKIPPED ${prefix(module, one.fullName)}: ${result.note}`);
  } else {
    tally.failed++;
    const why = result.state === 'skipped' ? 'skipped without a reason: use context.skip(reason)' : result.state;
    console.log(`FAILED ${prefix(module, one.fullName)}: ${why}`);
  }
}

/**
 * Runs one project of vitest.config.ts (`unit`, `machine` or `e2e`) and counts its tests. With `only`, tests whose full name does not match are not run
 * and not counted. A skipped test without a reason, a file that cannot be loaded, an error outside of tests and a suite without tests count
 * as failed.
 */
export async function runSuite(project: string, { only }: { only?: RegExp } = {}): Promise<Tally> {
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  const vitest = await startVitest('test', [], {
    project: [project],
    watch: false,
    reporters: ['default'],
    ...(only ? { testNamePattern: only } : {}),
  });
  for (const module of vitest.state.getTestModules()) {
    const before = tally.failed;
    for (const one of module.children.allTests()) if (!only || only.test(one.fullName)) tallyTest(module, one, tally);
    // A file whose import or hook failed: its tests did not run, or do not tell.
    if (module.state() === 'failed' && tally.failed === before) {
      tally.failed++;
      console.log(`FAILED ${module.relativeModuleId}: ${module.errors()[0]?.message ?? 'outside of its tests'}`);
    }
  }
  for (const error of vitest.state.getUnhandledErrors()) {
    tally.failed++;
    console.log(`FAILED outside of any test: ${textOf(error)}`);
  }
  await vitest.close();
  if (tally.passed + tally.failed + tally.skipped === 0) {
    tally.failed++;
    console.log(`FAILED suite ${project}: it has no tests`);
  }
  return tally;
}

/** What vitest hands over is an Error, or what is left of one that came from a worker: an object without a prototype. */
function textOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return String(error);
  const { stack, message } = error as { stack?: unknown; message?: unknown };
  return [stack, message].find((text) => typeof text === 'string' && text !== '')?.toString() ?? JSON.stringify(error);
}
