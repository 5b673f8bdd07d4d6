import { auditLog } from '../../../src/hub/audit/audit-log.ts';
import { entry } from './entries.ts';

// A process that writes its audit log to standard output: first some entries, then one for each line on standard input until it tells of trouble.
const log = auditLog({ destination: '-', onError: (text) => process.stderr.write(`${text}\n`), retryMs: 20 });
const count = Number(process.argv[2]);
for (let number = 0; number < count; number++) log.write(entry(number, 2_000));
let number = count;
for await (const _ of process.stdin) {
  log.write(entry(number++));
  await log.flush().catch(() => undefined);
  process.stderr.write(`problem ${log.problem() ?? 'none'}\n`);
}
await log.close();
