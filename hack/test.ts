import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { runSuite, type Tally } from './suites.ts';

// node hack/test.ts [types] [lint] [imports] [unit] [e2e] [machine]    default: all of them, in this order; machine: the tests on real machines
// node hack/test.ts attacks                                            the tests named after rows of the list of attacks (R1: ...), with long counts
//
// The last line counts everything: "N passed, N failed, N skipped". Exit code 0 only when something passed and nothing failed.

const root = fileURLToPath(new URL('..', import.meta.url));
process.chdir(root);

const commands: Record<string, { title: string; args: readonly string[] }> = {
  types: { title: 'type check', args: ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'] },
  lint: { title: 'lint and format', args: ['node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings'] },
  imports: { title: 'import rules', args: ['hack/check-imports.ts'] },
};
const suites = ['unit', 'e2e', 'machine'];
const attackRows = /(^|\s)R\d+:/;

function runCheck({ title, args }: { title: string; args: readonly string[] }): Tally {
  console.log(`\n== ${title}`);
  const { status, error } = spawnSync(process.execPath, args, { stdio: 'inherit' });
  const passed = status === 0;
  console.log(passed ? `${title}: passed` : `FAILED ${title}${error ? `: ${error.message}` : ''}`);
  return { passed: Number(passed), failed: Number(!passed), skipped: 0 };
}

async function run(part: string): Promise<Tally> {
  const command = commands[part];
  if (command) return runCheck(command);
  console.log(`\n== ${part} tests`);
  return runSuite(part);
}

const parts = process.argv.slice(2);
const unknown = parts.find((part) => part !== 'attacks' && !commands[part] && !suites.includes(part));
if (unknown !== undefined) {
  console.error(`hack/test.ts: unknown part ${unknown}; there are ${[...Object.keys(commands), ...suites, 'attacks'].join(', ')}`);
  process.exit(2);
}

const total: Tally = { passed: 0, failed: 0, skipped: 0 };
const add = (tally: Tally) => {
  total.passed += tally.passed;
  total.failed += tally.failed;
  total.skipped += tally.skipped;
};
if (parts.includes('attacks')) {
  // Tests read it where they choose their counts.
  process.env['FAIRLEAD_ATTACKS'] = 'long';
  for (const suite of suites) add(await runSuite(suite, { only: attackRows }));
} else {
  for (const part of parts.length > 0 ? parts : [...Object.keys(commands), ...suites]) add(await run(part));
}
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1);
