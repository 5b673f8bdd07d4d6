import { Agent, request } from 'node:http';
import type { MachineEnv } from '../../e2e/machine/env.ts';
import { CLUSTER } from '../../e2e/machine/env.ts';
import { atMost, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';
import { agentPid } from './agent-process.ts';

const [ROUNDS, EACH] = [5, 60];
const API = '/apis/infraops.michael.io/v1';

/** Median time of `ask`, in milliseconds, one request after the other. */
async function timed(ask: () => Promise<number>): Promise<number> {
  const times: number[] = [];
  for (let at = 0; at < EACH; at++) {
    const began = performance.now();
    const code = await ask();
    if (code !== 200) throw new Error(`answered ${code}`);
    times.push(performance.now() - began);
  }
  return median(times);
}

function bySocket(path: string, agent: Agent, url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: path, path: url, agent }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode ?? 0));
    });
    sent.once('error', reject);
    sent.end();
  });
}

/** GET of the status: through kube-apiserver, hub and tunnel, against the agent's own socket; the floor is the hop to the hub (discovery). */
export async function statusThroughTunnel({ parent, machine }: MachineEnv): Promise<Row[]> {
  const socket = `/proc/${await agentPid(machine)}/root/run/fairlead-agent/agent.sock`;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const got = { through: [] as number[], socket: [] as number[], hop: [] as number[] };
  try {
    for (let round = 0; round < ROUNDS; round++) {
      got.hop.push(await timed(async () => (await parent.api.request('GET', API)).status));
      got.through.push(await timed(async () => (await parent.api.request('GET', `${API}/clusters/${CLUSTER}/lifecycle`)).status));
      got.socket.push(await timed(() => bySocket(socket, agent, '/api/v1alpha1/cluster')));
    }
  } finally {
    agent.destroy();
  }
  const [through, own, hop] = [median(got.through), median(got.socket), median(got.hop)];
  const detail = `through ${through.toFixed(2)} ms, socket ${own.toFixed(2)} ms, hop ${hop.toFixed(2)} ms`;
  return [atMost('status through the tunnel minus socket minus hop, ms', through - own - hop, 1.5, detail)];
}
