import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { startHub } from '../e2e/lab/hub.ts';
import { startLab } from '../e2e/lab/lab.ts';
import { workerNodes } from '../e2e/lab/nodes.ts';
import { printReport } from './lib/report.ts';
import { availability } from './nodes/availability.ts';
import { burst } from './nodes/burst.ts';
import { discovery } from './nodes/discovery.ts';
import { idleMemory } from './nodes/idle-memory.ts';
import { listing } from './nodes/listing.ts';
import { posting } from './nodes/posting.ts';

/**
 * `make bench-nodes`: the release build of the hub against the kube-apiserver that it runs behind, on the same machine in the same run. Figures are ratios wherever
 * there is something to compare with.
 */
const NODES = 5_000;
const BURST = 500;

const say = (text: string) => process.stderr.write(`bench: ${text}\n`);

const root = join(import.meta.dirname, '..');
say('building the release');
execFileSync(process.execPath, [join(root, 'hack/build.ts'), '--only', 'hub'], { stdio: ['ignore', 'ignore', 'inherit'] });

say(`a control plane with ${NODES} nodes`);
const lab = await startLab({ nodes: workerNodes(NODES, BURST), kwok: false, downTime: 100 });
try {
  const flags = [
    '--restart-cooldown=0',
    '--max-nodes-down=100%',
    '--max-nodes-down-per-zone=100%',
    '--max-operations=10000',
    '--operation-timeout=10m',
  ];
  const hub = await startHub(lab, { entry: join(root, 'dist/fairlead-hub.mjs'), flags });
  const rows = [];
  say('POST restart against creating a ConfigMap');
  rows.push(await posting(lab));
  say('listing nodes');
  rows.push(...(await listing(lab, NODES)));
  say('discovery');
  rows.push(await discovery(lab));
  say('start to Available');
  rows.push(await availability(lab, hub));
  say('memory when idle');
  rows.push(await idleMemory(lab, hub));
  say(`${BURST} operations at once`);
  rows.push(...(await burst(lab, hub, BURST)));
  printReport(rows);
  process.exitCode = rows.every((row) => row.ok) ? 0 : 1;
} finally {
  await lab.stop();
}
