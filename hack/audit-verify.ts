import { parseArgs } from 'node:util';
import { readAuditKey } from '../src/hub/audit/key.ts';
import { type Verdict, verifyChain } from '../src/hub/audit/verify.ts';

const USAGE = `Usage: audit-verify.ts [--key-file FILE] [--no-head] LOG...

Checks the hash chain of audit logs. Give rotated files in their order, oldest first: the chain goes through all of them. The end of the
last one is held against LOG.head; with --no-head (a copy of standard output) it is not, and a cut end cannot be found.
Exit code: 0 whole, 1 broken or not readable, 2 wrong usage.`;

function told({ lines, last, firstBreak, notes }: Verdict): string[] {
  const aside = notes.map(({ line, json }) => `  line ${line}: ${json}`);
  if (firstBreak) return [`BROKEN at line ${firstBreak.line}: ${firstBreak.kind}: ${firstBreak.detail}`, ...aside];
  return [`ok: ${lines} lines, ends with number ${last?.seq ?? 'none'}`, ...aside];
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { 'key-file': { type: 'string' }, 'no-head': { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help || positionals.length === 0) {
    console[values.help ? 'log' : 'error'](USAGE);
    return values.help ? 0 : 2;
  }
  const key = values['key-file'] === undefined ? undefined : await readAuditKey(values['key-file']);
  let after: Verdict['last'];
  for (const [index, path] of positionals.entries()) {
    const head = index === positionals.length - 1 && !values['no-head'];
    const verdict = await verifyChain(path, { head, ...(key && { key }), ...(after && { after }) });
    for (const line of told(verdict)) console.log(line.startsWith(' ') ? line : `${path}: ${line}`);
    if (!verdict.ok) return 1;
    after = verdict.last ?? after;
  }
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  const wrongUsage = error instanceof TypeError && String((error as NodeJS.ErrnoException).code).startsWith('ERR_PARSE_ARGS');
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = wrongUsage ? 2 : 1;
}
