import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type AgentProcess, startAgent } from '../e2e/lab/agent.ts';
import { type Child, startChild } from '../e2e/lab/child.ts';
import { type Hub, startHub } from '../e2e/lab/hub.ts';
import { runCommand } from '../e2e/lab/kubectl.ts';
import { type Lab, startLab } from '../e2e/lab/lab.ts';
import type { Machine } from '../e2e/lab/machine.ts';
import type { KubeNode } from '../e2e/lab/nodes.ts';
import { bareMachine, joinMachine } from './demo-machine.ts';

// A whole cluster with its cloud and a hub, and a child cluster behind an agent, in the foreground until Ctrl-C or SIGTERM.
// --check: restarts one node and asks the child for its pods by itself, and ends with 0 when all went well, 1 otherwise.
// --machine: adds a Linux machine with systemd that can be made a cluster (root, systemd-nspawn; the first time takes minutes).

/** The user of the kubeconfig that the lab makes for its admin. */
const ADMIN = 'fairlead-admin';
const root = fileURLToPath(new URL('..', import.meta.url));
const check = process.argv.includes('--check');
const withMachine = process.argv.includes('--machine');
const unknown = process.argv.slice(2).find((arg) => !['--check', '--machine'].includes(arg));
if (unknown !== undefined) {
  console.error(`hack/demo.ts: unknown argument ${unknown}; there are --check and --machine`);
  process.exit(2);
}

/** Makes a folder with kubectl, its plugins and the Node that they run on. */
async function makeBinFolder(lab: Lab): Promise<string> {
  const bin = join(lab.dir, 'bin');
  mkdirSync(bin);
  for (const file of [join(lab.bin, 'kubectl'), process.execPath]) symlinkSync(file, join(bin, basename(file)));
  const args = [join(root, 'hack/build.ts'), '--only', 'plugins', '--out', bin];
  const build = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(build, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`hack/build.ts ended with ${code}: the plugins are not there`);
  return bin;
}

function instructions(lab: Lab, bin: string, seconds: number, machine: readonly string[]): string {
  const lines = [
    `Kubernetes v1.36.3 with ${lab.nodes.length} nodes, EC2 (moto), the hub and a child cluster are up after ${seconds.toFixed(1)} s. In another terminal:`,
    '',
    `export KUBECONFIG=${lab.adminKubeconfig}`,
    `export PATH=${bin}:$PATH`,
    '',
    'kubectl get nodes.infraops.michael.io',
    'kubectl restart worker-1',
    'kubectl restart worker-3 --drain',
    'kubectl get nodeoperations -w',
    'kubectl restart control-plane-1                    # refused: it is the only control plane',
    'kubectl restart worker-2 --dry-run=server',
    'kubectl infra nodes',
    'kubectl create --raw /apis/infraops.michael.io/v1/nodes/worker-4/restart -f /dev/null',
    'kubectl explain nodeoperations.infraops.michael.io',
    '',
    '# The child cluster: another API server, which only the agent can reach',
    'kubectl get clsrr,mcls -A',
    'kubectl infra clusters',
    `kubectl infra kubeconfig edge-1 > ${lab.dir}/edge-1.kubeconfig`,
    `alias edge='kubectl --kubeconfig ${lab.dir}/edge-1.kubeconfig'`,
    'edge get pods -A',
    'edge exec -it web -- sh',
    'edge port-forward web 8080:80',
    ...machine,
    '',
    `Logs: ${lab.dir}/*.log and ${lab.dir}/hub/*.log. Ctrl-C ends everything and leaves nothing behind.`,
  ];
  return lines.join('\n');
}

async function runCheck(lab: Lab, bin: string): Promise<void> {
  const { name, instanceID } = lab.node(1);
  const bootID = async () => (await lab.api.json<KubeNode>('GET', `/api/v1/nodes/${name}`)).status.nodeInfo.bootID;
  const environment = lab.commandEnv();
  const env = { ...environment, PATH: `${bin}:${environment.PATH}` };
  const before = await bootID();
  console.log(`$ kubectl restart ${name}`);
  const restart = await runCommand('kubectl', ['restart', name, '--timeout=60s'], { env, timeout: 90_000 });
  process.stdout.write(restart.stdout + restart.stderr);
  if (restart.code !== 0) throw new Error(`kubectl restart ended with ${restart.code}`);
  console.log('$ kubectl get nodeoperations');
  const list = await runCommand('kubectl', ['get', 'nodeoperations.infraops.michael.io', '-o', 'wide'], { env });
  process.stdout.write(list.stdout + list.stderr);
  const answer = await runCommand('kubectl', ['get', 'nodeoperations.infraops.michael.io', '-o', 'jsonpath={.items[*].status.phase}'], {
    env,
  });
  if (answer.stdout !== 'Succeeded')
    throw new Error(`the phase of the only operation is "${answer.stdout}", not Succeeded; ${answer.stderr}`);
  if ((await bootID()) === before) throw new Error(`${name} still has the boot id it had`);
  const reboots = lab.ec2.gate.count('RebootInstances', instanceID);
  if (reboots !== 1) throw new Error(`EC2 saw ${reboots} RebootInstances for ${name}, not one`);
  console.log(`${name} was rebooted once, has a new boot id, and its operation Succeeded.`);
}

/** A second cluster that calls in. Whoever is admin in the parent is admin there too, by an ordinary binding. */
async function addChild(lab: Lab): Promise<{ child: Child; join: () => Promise<AgentProcess> }> {
  const child = await startChild();
  return {
    child,
    async join() {
      await child.grant({ kind: 'User', name: ADMIN });
      return await startAgent(child, lab, { clusterName: 'edge-1', flags: ['--tunnels=1'] });
    },
  };
}

async function checkChild(lab: Lab, bin: string): Promise<void> {
  const environment = lab.commandEnv();
  const env = { ...environment, PATH: `${bin}:${environment.PATH}` };
  const made = await runCommand('kubectl', ['infra', 'kubeconfig', 'edge-1', '-o', join(lab.dir, 'edge-1.kubeconfig')], { env });
  if (made.code !== 0) throw new Error(`kubectl infra kubeconfig ended with ${made.code}: ${made.stderr}`);
  console.log('$ kubectl --kubeconfig edge-1.kubeconfig get pods');
  const pods = await runCommand('kubectl', ['--kubeconfig', join(lab.dir, 'edge-1.kubeconfig'), 'get', 'pods'], { env });
  process.stdout.write(pods.stdout + pods.stderr);
  if (!/^web\s+1\/1\s+Running/m.test(pods.stdout)) throw new Error(`the pod of the child cluster was not listed: ${pods.stderr}`);
  console.log('the child cluster was reached through the tunnel.');
}

/** Resolves at Ctrl-C or SIGTERM; rejects when the hub or a part of the control planes ends by itself. */
async function untilStopped(lab: Lab, child: Lab, hub: Hub): Promise<void> {
  const stop = Promise.withResolvers<void>();
  const processes = [...lab.processes(), ...child.processes(), ...hub.replicas.flatMap((replica) => replica.process ?? [])];
  for (const proc of processes) {
    proc.exited.then(
      ({ code, signal }) => stop.reject(new Error(`${proc.name} ended by itself (${signal ?? code}); its log was ${proc.log}`)),
      () => undefined,
    );
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const onSignal = () => stop.resolve();
  for (const signal of signals) process.on(signal, onSignal);
  try {
    await stop.promise;
  } finally {
    // From here on a second Ctrl-C ends this process at once; what is left is then cleaned up on its way out.
    for (const signal of signals) process.off(signal, onSignal);
  }
}

async function main(): Promise<void> {
  const begin = performance.now();
  const machine = withMachine ? await bareMachine() : undefined;
  try {
    await runDemo(begin, machine);
  } finally {
    await machine?.stop();
  }
}

/** A machine takes root and some minutes, so it is only offered. */
const OFFER = process.getuid?.() === 0 ? ['', '# make demo DEMO_FLAGS=--machine adds a machine that can be made a cluster'] : [];

async function runDemo(begin: number, machine: Machine | undefined): Promise<void> {
  const lab = await startLab({ downTime: check ? 500 : 5000, ...(machine && { addresses: [machine.host] }) });
  let child: Child | undefined;
  try {
    const adding = addChild(lab);
    const [bin, hub, added] = await settled([makeBinFolder(lab), startHub(lab, { flags: ['--shutdown-delay=0s'] }), adding]);
    child = added.child;
    await added.join();
    if (check) {
      await runCheck(lab, bin);
      await checkChild(lab, bin);
      return;
    }
    const more = machine ? await joinMachine(lab, bin, machine) : OFFER;
    console.log(instructions(lab, bin, (performance.now() - begin) / 1000, more));
    lab.ec2.gate.onAccepted(({ action, instanceIDs }) => console.log(`EC2: ${action} ${instanceIDs.join(' ')}`));
    await untilStopped(lab, child.lab, hub);
    console.log('stopping');
    await hub.stop();
  } finally {
    await child?.stop();
    await lab.stop();
  }
}

/** Like Promise.all, but waits for all: what one of them started must be known when another one failed. */
async function settled<A, B, C>(work: readonly [Promise<A>, Promise<B>, Promise<C>]): Promise<[A, B, C]> {
  await Promise.allSettled(work);
  return [await work[0], await work[1], await work[2]];
}

try {
  await main();
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
