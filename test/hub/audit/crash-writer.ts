import { auditLog } from '../../../src/hub/audit/audit-log.ts';
import { entry } from './entries.ts';

// A process to be killed: writes entries as fast as they go, and prints the number of the last one that flush() called durable.
const [path = '', start = ''] = process.argv.slice(2);
const log = auditLog({ destination: path, onError: (text) => process.stderr.write(`${text}\n`), settleMs: 5 });
for (let number = Number(start); ; ) {
  for (let more = 0; more < 50; more++) log.write(entry(number++, 2_000));
  await log.flush();
  process.stdout.write(`${number - 1}\n`);
}
