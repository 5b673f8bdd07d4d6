import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { startClient } from './lib/client.ts';
import { chosenParts, measureParts, type Parts, say } from './lib/parts.ts';
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
const parts: Parts<Bench> = {
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

const wanted = chosenParts(parts);

const root = join(import.meta.dirname, '..');
say('building the release');
execFileSync(process.execPath, [join(root, 'hack/build.ts'), '--only', 'hub,agent'], { stdio: ['ignore', 'ignore', 'inherit'] });

const client = startClient();
let bench: Bench | undefined;
try {
  say('two control planes, the hub and an agent');
  bench = await startBench(client, join(root, 'dist'));
  await measureParts(wanted, bench);
} finally {
  client.stop();
  await bench?.stop();
}
