import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor } from '../../e2e/lab/wait.ts';
import type { MachineEnv } from '../../e2e/machine/env.ts';
import { CLUSTER_ID_LABEL } from '../../src/kube/clusternet.ts';
import { atMost, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';

const STARTS = 5;
const REGISTRATIONS = 3;
const LIMIT_MS = 60_000;
const STATE = '/var/lib/fairlead-agent';
const REQUESTS = 'clusterregistrationrequests.clusters.clusternet.io';

const service = (verb: 'start' | 'stop') => ['systemctl', verb, 'fairlead-agent'];
const shown = (seconds: readonly number[]) => `median of ${seconds.map((s) => s.toFixed(2)).join(', ')}`;

/** Seconds from the start of an agent that stops now, and is registered, to its tunnel. */
async function startToTunnel({ machine }: MachineEnv): Promise<number> {
  await machine.run(service('stop'));
  const since = `@${Math.floor(Date.now() / 1000)}`;
  const before = Date.now();
  await machine.run(service('start'));
  for (;;) {
    const log = await machine.run(['journalctl', '--no-pager', '-o', 'cat', '-u', 'fairlead-agent', '--since', since]);
    const lines = log.split('\n').filter((line) => line.includes('"tunnel open"'));
    const opened = lines.map((line) => (JSON.parse(line) as { time: number }).time).find((time) => time >= before);
    if (opened !== undefined) return (opened - before) / 1000;
    if (Date.now() - before > LIMIT_MS) throw new Error(`the agent has not opened its tunnel after ${LIMIT_MS / 1000} s`);
    await sleep(100);
  }
}

/** Seconds from the start of an agent that nobody knows, and that knows nothing, to the credential that its approved request leads to. */
async function startToRegistered({ machine, ok, connected }: MachineEnv): Promise<number> {
  await machine.run(service('stop'));
  await ok(['delete', REQUESTS, '--all']);
  await waitFor(async () => (await ok(['get', 'namespaces', '-l', CLUSTER_ID_LABEL, '-o', 'name'])).trim() === '', {
    what: 'everything of the cluster to be gone from the parent',
    timeout: LIMIT_MS,
    interval: 200,
  });
  await machine.run(['find', STATE, '-mindepth', '1', '-delete']);
  const before = Date.now();
  await machine.run(service('start'));
  // Written when the parent has accepted it.
  const registered = await waitFor(async () => Number(await machine.run(['stat', '-c', '%.Y', `${STATE}/credential.json`])), {
    what: 'the agent to be registered',
    timeout: LIMIT_MS,
  });
  await connected();
  return (registered * 1000 - before) / 1000;
}

/** The size of the agent's executable, and how long it takes from its start to where it is of use. */
export async function executable(env: MachineEnv): Promise<Row[]> {
  await env.connected();
  const size = Number(await env.machine.run(['stat', '-c', '%s', '/usr/bin/fairlead-agent'])) / 2 ** 20;
  const tunnels: number[] = [];
  for (let start = 0; start < STARTS; start++) tunnels.push(await startToTunnel(env));
  const registrations: number[] = [];
  for (let start = 0; start < REGISTRATIONS; start++) registrations.push(await startToRegistered(env));
  return [
    atMost('agent executable, MiB', size, 140, '/usr/bin/fairlead-agent'),
    atMost(
      'agent start with an empty state to registered, s',
      median(registrations),
      2,
      `systemctl start to the credential of the approved request, ${shown(registrations)}`,
    ),
    atMost('agent start, registered before, to tunnel open, s', median(tunnels), 2, `from systemctl start, ${shown(tunnels)}`),
  ];
}
