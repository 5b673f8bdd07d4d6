import { noMachines } from '../e2e/lab/machine.ts';
import { type MachineEnv, startMachineEnv } from '../e2e/machine/env.ts';
import { printReport, type Row } from './lib/report.ts';
import { createAgainstBare } from './lifecycle/create.ts';
import { executable } from './lifecycle/executable.ts';
import { idleAgent } from './lifecycle/idle.ts';
import { statusThroughTunnel } from './lifecycle/status.ts';

/** `make bench-lifecycle`: a machine with systemd becomes a cluster by the agent's package, against bare kubeadm on a machine like it, in one run. */
const say = (text: string) => process.stderr.write(`bench: ${text}\n`);

const impossible = noMachines();
if (impossible !== undefined) {
  say(`no machines here: ${impossible}`);
  process.exit(2);
}
say('a parent control plane, the hub, and a machine with the package of the agent');
const rows: Row[] = [];
let env: MachineEnv | undefined;
try {
  env = await startMachineEnv();
  const running = env;
  const parts: [string, () => Promise<Row[]>][] = [
    ['the executable', () => executable(running)],
    ['the idle agent without a cluster', () => idleAgent(running, 'without a cluster', 85)],
    ['create, against bare kubeadm', () => createAgainstBare(running)],
    ['the idle agent with a cluster', () => idleAgent(running, 'with a cluster', 100)],
    // Last: a cluster that starts takes both processors.
    ['status through the tunnel', () => statusThroughTunnel(running)],
  ];
  for (const [title, run] of parts) {
    say(title);
    try {
      const found = await run();
      for (const { name, value, detail } of found) say(`  ${name}: ${value} (${detail})`);
      rows.push(...found);
    } catch (error) {
      // A row that could not be measured is missed, and the others are still worth knowing.
      rows.push({ name: title, value: Number.NaN, limit: 0, ok: false, detail: error instanceof Error ? error.message : String(error) });
    }
  }
  printReport(rows);
  process.exitCode = rows.every((row) => row.ok) ? 0 : 1;
} finally {
  await env?.stop();
}
