import { setTimeout as sleep } from 'node:timers/promises';
import type { MachineEnv } from '../../e2e/machine/env.ts';
import { atMost, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';

const STARTS = 5;

/** The size of the agent's executable, and the time from its start to its tunnel. */
export async function executable({ machine, connected }: MachineEnv): Promise<Row[]> {
  await connected();
  const size = Number(await machine.run(['stat', '-c', '%s', '/usr/bin/fairlead-agent'])) / 2 ** 20;
  const seconds: number[] = [];
  for (let start = 0; start < STARTS; start++) {
    await machine.run(['systemctl', 'stop', 'fairlead-agent']);
    const since = `@${Math.floor(Date.now() / 1000)}`;
    const before = Date.now();
    await machine.run(['systemctl', 'start', 'fairlead-agent']);
    for (;;) {
      const log = await machine.run(['journalctl', '--no-pager', '-o', 'cat', '-u', 'fairlead-agent', '--since', since]);
      const lines = log.split('\n').filter((line) => line.includes('"tunnel open"'));
      const opened = lines.map((line) => (JSON.parse(line) as { time: number }).time).find((time) => time >= before);
      if (opened !== undefined) {
        seconds.push((opened - before) / 1000);
        break;
      }
      if (Date.now() - before > 60_000) throw new Error('the agent has not opened its tunnel after 60 s');
      await sleep(100);
    }
  }
  return [
    atMost('agent executable, MiB', size, 140, '/usr/bin/fairlead-agent'),
    atMost(
      'agent start to registered, s',
      median(seconds),
      2,
      `systemctl start to tunnel open, median of ${seconds.map((s) => s.toFixed(2)).join(', ')}`,
    ),
  ];
}
