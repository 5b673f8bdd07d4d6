import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { runSuite, type Tally } from './suites.ts';

// node hack/test.ts [types] [lint] [imports] [unit] [machine] [e2e]    default: all of them; machine, which mostly waits, beside unit
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
const suites = ['unit', 'machine', 'e2e'];
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

/** Runs a part in a process of its own; each line that it prints gets the part's name in front. */
function runBeside(part: string): Promise<Tally> {
  const child = spawn(process.execPath, ['hack/test.ts', part], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  let tally: Tally | undefined;
  child.on('message', (message) => {
    tally = message as Tally;
  });
  if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => console.log(line && `${part} | ${line}`));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (tally) return resolve(tally);
      console.log(`FAILED ${part} tests: ended with ${signal ?? `exit code ${code}`}`);
      resolve({ passed: 0, failed: 1, skipped: 0 });
    });
  });
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
  for (const part of parts.length > 0 ? parts : Object.keys(commands)) add(await run(part));
  if (parts.length === 0) {
    for (const tally of await Promise.all([run('unit'), runBeside('machine')])) add(tally);
    add(await run('e2e'));
  }
}
// To runBeside, which counts it.
await new Promise((sent) => (process.send ? process.send(total, sent) : sent(undefined)));
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1);
