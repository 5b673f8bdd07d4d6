import { noMachines } from '../e2e/lab/machine.ts';
import { type MachineEnv, startMachineEnv } from '../e2e/machine/env.ts';
import { chosenParts, measureParts, type Parts, say } from './lib/parts.ts';
import { createAgainstBare } from './lifecycle/create.ts';
import { executable } from './lifecycle/executable.ts';
import { idleAgent } from './lifecycle/idle.ts';
import { statusThroughTunnel } from './lifecycle/status.ts';

/**
 * `make bench-lifecycle [ROWS=create,...]`: a machine with systemd becomes a cluster by the agent's package, against bare kubeadm on a machine like it, in one run. `cluster` and `status`
 * need what `create` leaves.
 */
const parts: Parts<MachineEnv> = {
  executable: { title: 'the executable', run: executable },
  idle: { title: 'the idle agent without a cluster', run: (env) => idleAgent(env, 'without a cluster', 85) },
  create: { title: 'create, against bare kubeadm', run: createAgainstBare },
  cluster: { title: 'the idle agent with a cluster', run: (env) => idleAgent(env, 'with a cluster', 100) },
  // Last: a cluster that starts takes both processors.
  status: { title: 'status through the tunnel', run: statusThroughTunnel },
};

const wanted = chosenParts(parts);
const impossible = noMachines();
if (impossible !== undefined) {
  say(`no machines here: ${impossible}`);
  process.exit(2);
}
say('a parent control plane, the hub, and a machine with the package of the agent');
let env: MachineEnv | undefined;
try {
  env = await startMachineEnv();
  await env.connected();
  await measureParts(wanted, env);
} finally {
  await env?.stop();
}
