import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { agentPackage, joinByPackage } from '../lab/agent-package.ts';
import { artifactsFolder } from '../lab/artifacts.ts';
import { type Hub, startHub } from '../lab/hub.ts';
import { type CommandResult, runCommand } from '../lab/kubectl.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { type Machine, type MachineOptions, startMachine } from '../lab/machine.ts';
import { waitFor } from '../lab/wait.ts';

export const CLUSTER = 'edge-1';
export const ARTIFACTS = '/opt/artifacts';
const COMMAND_MS = 900_000;

/** A parent control plane with a hub, and a machine on which the agent's package runs, registered with the parent. */
export type MachineEnv = {
  parent: Lab;
  hub: Hub;
  machine: Machine;
  /** kubectl of the parent's administrator, with the plugins in PATH. Resolves with any exit code. */
  kubectl(args: readonly string[], options?: { kubeconfig?: string; input?: string }): Promise<CommandResult>;
  /** As `kubectl`, but rejects unless the exit code is 0; stdout. */
  ok(args: readonly string[], options?: { kubeconfig?: string; input?: string }): Promise<string>;
  /** What `clusters/edge-1/lifecycle` answers through parent, hub and tunnel. */
  lifecycle(): Promise<Lifecycle>;
  /** Lets the parent's administrator do everything in the new cluster: with that cluster's own kubeconfig, from here. */
  grantInside(): Promise<void>;
  /** kubectl with the kubeconfig that goes through the tunnel to the cluster on the machine, as the parent's administrator. */
  inside(args: readonly string[], options?: { input?: string }): Promise<string>;
  agentPid(): Promise<string>;
  /** Ends the agent at once; the machine's first process starts it again. */
  killAgent(): Promise<void>;
  /** Waits until the hub counts a tunnel. */
  connected(): Promise<void>;
  stop(): Promise<void>;
};

export type Lifecycle = {
  spec?: { version?: string };
  status: {
    phase: string;
    kubernetesVersion?: string;
    bootID?: string;
    unschedulable?: boolean;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
    operation?: {
      id: string;
      type: string;
      phase: string;
      message?: string;
      nextCommand?: string;
      resumed?: number;
      requestedBy?: string;
      steps: { name: string; state: string }[];
    };
    drift?: { path: string; problem: string }[];
  };
};

export type MachineEnvOptions = MachineOptions & {
  /** Folder of this computer that the machine has as ARTIFACTS. */
  artifacts?: string;
  /** Further flags of the agent. */
  flags?: readonly string[];
};

/** Starts all of it. */
export async function startMachineEnv({ artifacts, flags = [], ...options }: MachineEnvOptions = {}): Promise<MachineEnv> {
  const source = artifacts ?? (await artifactsFolder());
  const machine = await startMachine({
    name: CLUSTER,
    ...options,
    binds: [{ source, target: ARTIFACTS }, ...(options.binds ?? [])],
  });
  let parent: Lab | undefined;
  const stop = async () => {
    await machine.stop();
    await parent?.stop();
  };
  try {
    parent = await startLab({ moto: false, kwok: false, nodes: [], addresses: [machine.host] });
    return await withAgent({ parent, machine, flags, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

async function withAgent(given: Pick<MachineEnv, 'parent' | 'machine' | 'stop'> & { flags: readonly string[] }): Promise<MachineEnv> {
  const { parent, machine, flags, stop } = given;
  const plugins = join(parent.dir, 'plugins');
  const build = fileURLToPath(new URL('../../hack/build.ts', import.meta.url));
  const [hub, built, deb] = await Promise.all([
    startHub(parent, { flags: ['--shutdown-delay=0s'] }),
    runCommand(process.execPath, [build, '--only=plugins', `--out=${plugins}`], { env: parent.commandEnv(), timeout: 120_000 }),
    agentPackage(join(parent.dir, 'package')),
  ]);
  if (built.code !== 0) throw new Error(built.stderr);

  const kubectl: MachineEnv['kubectl'] = async (args, { kubeconfig, input } = {}) => {
    const env = parent.commandEnv(kubeconfig);
    return await runCommand(join(parent.bin, 'kubectl'), args, {
      env: { ...env, PATH: `${plugins}:${join(process.execPath, '..')}:${env.PATH}` },
      timeout: COMMAND_MS,
      ...(input !== undefined && { input }),
    });
  };
  const ok: MachineEnv['ok'] = async (args, options) => {
    const { code, stdout, stderr } = await kubectl(args, options);
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: exit code ${code}\n${stdout.slice(-2_000)}\n${stderr.slice(-4_000)}`);
    return stdout;
  };
  const lifecycle = async () =>
    JSON.parse(await ok(['get', '--raw', `/apis/infraops.michael.io/v1/clusters/${CLUSTER}/lifecycle`])) as Lifecycle;
  const connected = async () => {
    await waitFor(
      async () =>
        (await ok(['get', 'clusters.infraops.michael.io', CLUSTER, '-o', 'jsonpath={.status.connected}'])).trim() === 'true' &&
        (await lifecycle()) !== undefined,
      { what: 'the agent of the machine to be connected', timeout: 120_000, interval: 500 },
    );
  };

  const command = ['infra', 'join-command', '--machine', `--cluster-name=${CLUSTER}`, `--parent-url=${parent.apiServerAt(machine.host)}`];
  await joinByPackage(machine, deb, await ok(command), [`--artifacts=${ARTIFACTS}`, ...flags]);

  const agentPid = async () => (await machine.run(machine.init.agentPid)).trim();
  const kubeconfig = join(parent.dir, 'edge-1.kubeconfig');
  return {
    parent,
    hub,
    machine,
    kubectl,
    ok,
    lifecycle,
    async grantInside() {
      const own = join(parent.dir, 'own.kubeconfig');
      await ok(['infra', 'kubeconfig', CLUSTER, '--admin', '-o', own, '--overwrite']);
      await ok(['create', 'clusterrolebinding', 'parent-admin', '--clusterrole=cluster-admin', '--user=fairlead-admin'], {
        kubeconfig: own,
      });
    },
    async inside(args, options) {
      writeFileSync(kubeconfig, await ok(['infra', 'kubeconfig', CLUSTER]), { mode: 0o600 });
      return await ok(args, { kubeconfig, ...options });
    },
    agentPid,
    async killAgent() {
      await machine.run(['kill', '-9', await agentPid()]);
    },
    connected,
    stop,
  };
}
