import { setTimeout as sleep } from 'node:timers/promises';
import type { ParentOptions } from '../../src/agent/parent/parent.ts';
import type { Target } from '../lib/http1.ts';
import { residentMiB, settledMiB } from '../lib/memory.ts';
import { atMost, type Row } from '../lib/report.ts';
import { type AgentCredential, registerClusters, startIdleAgents } from './idle-agents.ts';
import { type Bench, VERSION_PATH } from './setup.ts';

const THROUGH = 600;
const AGENTS = 1_000;
/** Connected before the first look at the memory, so that what is made once is not counted. */
const FIRST = 100;
const LOOK_MS = 4_000;
const STORM_MS = 20_000;

/** Seats of priority and fairness that are taken now, without those of exempt requests. */
async function seats(bench: Bench): Promise<number> {
  const { text } = await bench.parent.api.request('GET', '/metrics');
  const found = [...text.matchAll(/^apiserver_flowcontrol_current_executing_seats\{([^}]*)\} (\S+)$/gm)];
  if (found.length === 0) throw new Error('kube-apiserver has no metric apiserver_flowcontrol_current_executing_seats');
  return found.filter(([, labels]) => !labels?.includes('priority_level="exempt"')).reduce((sum, [, , value]) => sum + Number(value), 0);
}

/** A ServiceAccount that has nothing to do with sockets, asking the parent for something of its own. */
async function bystander(bench: Bench): Promise<Target> {
  for (const args of [
    ['clusterrole', 'bystander', '--verb=list', '--resource=services'],
    ['clusterrolebinding', 'bystander', '--clusterrole=bystander', '--serviceaccount=default:default'],
  ]) {
    const { code, stderr } = await bench.parent.kubectl(['create', ...args]);
    if (code !== 0) throw new Error(stderr);
  }
  const token = await bench.parent.serviceAccountToken('default', 'default');
  return {
    url: `${bench.parent.apiServerURL}/api/v1/namespaces/default/services`,
    ca: bench.parent.ca,
    headers: { authorization: `Bearer ${token}` },
  };
}

/** What many idle agents cost: seats, memory, and how soon they are back when all are cut at once. The second replica must be down. */
export async function idleAgents(bench: Bench, say: (text: string) => void): Promise<Row[]> {
  const { parent, hub, client } = bench;
  const others = await bystander(bench);
  const throughKube: ParentOptions = { url: parent.apiServerURL, caFile: '', ca: parent.ca, serverName: '' };
  const atHub: ParentOptions = {
    url: hub.replica(0).directURL,
    caFile: '',
    ca: await hub.caBundle(),
    serverName: `${hub.serviceName}.${hub.namespace}.svc`,
  };
  const registering = performance.now();
  const credentials = await registerClusters(parent, AGENTS + FIRST, 600_000);
  say(`${credentials.length} clusters registered in ${((performance.now() - registering) / 1_000).toFixed(0)} s`);

  const agents = startIdleAgents();
  try {
    const rows = await idleThroughKube(bench, agents, credentials.slice(0, THROUGH), throughKube, others);
    for (const { name, value, detail } of rows) say(`  ${name}: ${value} (${detail})`);
    say(`memory of ${AGENTS} idle agents`);
    await agents.close();
    await hub.kill(0, 'SIGTERM');
    await hub.start(0);
    await agents.open(credentials.slice(0, FIRST), atHub);
    await agents.waitForAll(120_000);
    const before = await settledMiB(bench.hubPid());
    await agents.open(credentials.slice(FIRST, FIRST + AGENTS), atHub);
    await agents.waitForAll(120_000);
    const after = await settledMiB(bench.hubPid());
    const each = ((after - before) * 1024) / AGENTS;
    rows.push(
      atMost('resident memory of the hub for each further idle agent, KiB', each, 100, `${before.toFixed(0)} -> ${after.toFixed(0)} MiB`),
    );

    say(`${AGENTS} agents reconnecting`);
    await agents.close();
    await agents.open(credentials.slice(0, AGENTS), throughKube);
    await agents.waitForAll(180_000);
    const probes = [others, bench.through(VERSION_PATH)].map((target) => client.try({ target, concurrency: 1, durationMs: STORM_MS }));
    await sleep(500);
    const dropped = performance.now();
    await agents.drop();
    const state = await agents.waitForAll(300_000);
    const back = (performance.now() - dropped) / 1_000;
    const [other, through] = await Promise.all(probes);
    if (!other || !through) throw new Error('a probe is missing');
    rows.push(
      atMost(
        `${AGENTS} agents reconnecting at once, until all are back, s`,
        back,
        15,
        `${state.attempts} attempts, ${JSON.stringify(state.refusals)}`,
      ),
      atMost(
        'slowest request of others meanwhile, s',
        Math.max(other.max, through.max) / 1_000,
        1,
        `kube-apiserver ${other.max.toFixed(0)} ms, another child ${through.max.toFixed(0)} ms`,
      ),
      // A connection that broke, or a quick 429 or 503, is not slow, and no answer either.
      atMost(
        'requests of others meanwhile that were not answered with 200',
        other.failures + through.failures,
        0,
        `kube-apiserver ${other.failures} of ${other.count} ${JSON.stringify(other.statuses)}, another child ${through.failures} of ${through.count} ${JSON.stringify(through.statuses)}`,
      ),
    );
    return rows;
  } finally {
    agents.stop();
  }
}

async function idleThroughKube(
  bench: Bench,
  agents: ReturnType<typeof startIdleAgents>,
  credentials: readonly AgentCredential[],
  parentOptions: ParentOptions,
  others: Target,
): Promise<Row[]> {
  const kube = bench.parent.processes().find(({ name }) => name === 'kube-apiserver');
  if (!kube) throw new Error('the parent has no kube-apiserver');
  const alone = await bench.client.run({ target: others, concurrency: 1, durationMs: LOOK_MS });
  const [seatsBefore, memoryBefore] = [await seats(bench), residentMiB(kube.pid)];
  await agents.open(credentials, parentOptions);
  await agents.waitForAll(180_000);
  const [seatsAfter, memoryAfter] = [await seats(bench), await settledMiB(kube.pid)];
  const beside = await bench.client.try({ target: others, concurrency: 1, durationMs: LOOK_MS });
  const each = ((memoryAfter - memoryBefore) * 1024) / credentials.length;
  return [
    atMost(
      `seats held by ${credentials.length} idle tunnels through kube-apiserver`,
      seatsAfter - seatsBefore,
      5,
      `kube-apiserver ${memoryBefore.toFixed(0)} -> ${memoryAfter.toFixed(0)} MiB, ${each.toFixed(0)} KiB each`,
    ),
    atMost(
      'another service account meanwhile, answers that were not 200',
      beside.failures,
      0,
      `${beside.count} requests ${JSON.stringify(beside.statuses)}`,
    ),
    atMost(
      'another service account meanwhile / before, p99',
      beside.p99 / alone.p99,
      2,
      `${beside.p99.toFixed(1)} / ${alone.p99.toFixed(1)} ms`,
    ),
  ];
}
