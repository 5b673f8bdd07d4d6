import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { startClient } from './lib/client.ts';
import { printReport, type Row } from './lib/report.ts';
import { bulk } from './sockets/bulk.ts';
import { agentDescriptors, agentFaults, hubRestart } from './sockets/faults.ts';
import { idleAgents } from './sockets/idle.ts';
import { otherReplica } from './sockets/replicas.ts';
import { type Bench, startBench } from './sockets/setup.ts';
import { smallRequests } from './sockets/small.ts';

/**
 * `make bench-sockets [ROWS=small,bulk,...]`: the release builds of hub and agent between two real control planes, against the child's API server itself, on the same
 * machine in the same run. Figures are ratios wherever there is something to compare with.
 */
const say = (text: string) => process.stderr.write(`bench: ${text}\n`);

const parts: Record<string, { title: string; run: (bench: Bench) => Promise<Row[]> }> = {
  small: { title: 'small requests', run: smallRequests },
  descriptors: { title: 'descriptors', run: async (bench) => [await agentDescriptors(bench)] },
  bulk: { title: 'lists of 50 MB', run: bulk },
  faults: {
    title: 'agent dead, agent frozen, hub restarted',
    run: async (bench) => [...(await agentFaults(bench)), await hubRestart(bench)],
  },
  replicas: {
    title: 'two replicas',
    run: async (bench) => {
      try {
        return [await otherReplica(bench)];
      } finally {
        await bench.hub.kill(1, 'SIGTERM');
      }
    },
  },
  idle: { title: 'idle agents', run: (bench) => idleAgents(bench, say) },
};

const wanted = process.argv[2] ? process.argv[2].split(',') : Object.keys(parts);
const unknown = wanted.find((name) => !parts[name]);
if (unknown !== undefined) {
  say(`unknown rows ${unknown}; there are ${Object.keys(parts).join(', ')}`);
  process.exit(2);
}

const root = join(import.meta.dirname, '..');
say('building the release');
execFileSync(process.execPath, [join(root, 'hack/build.ts'), '--only', 'hub,agent'], { stdio: ['ignore', 'ignore', 'inherit'] });

const client = startClient();
let bench: Bench | undefined;
try {
  say('two control planes, the hub and an agent');
  bench = await startBench(client, join(root, 'dist'));
  const rows: Row[] = [];
  for (const name of wanted) {
    const part = parts[name];
    if (!part) continue;
    say(part.title);
    try {
      const found = await part.run(bench);
      for (const { name, value, detail } of found) say(`  ${name}: ${value} (${detail})`);
      rows.push(...found);
    } catch (error) {
      // A row that could not be measured is missed, and the others are still worth knowing.
      const detail = error instanceof Error ? error.message : String(error);
      rows.push({ name: part.title, value: Number.NaN, limit: 0, ok: false, detail });
    }
  }
  printReport(rows);
  process.exitCode = rows.every((row) => row.ok) ? 0 : 1;
} finally {
  client.stop();
  await bench?.stop();
}
