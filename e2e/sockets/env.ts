import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { type AgentOptions, type AgentProcess, startAgent } from '../lab/agent.ts';
import { type Child, type ChildOptions, startChild } from '../lab/child.ts';
import { type Hub, type HubOptions, startHub } from '../lab/hub.ts';
import { applyObjects } from '../lab/hub-objects.ts';
import { type CommandOptions, type CommandResult, runCommand } from '../lab/kubectl.ts';
import { type Lab, type LabOptions, startLab } from '../lab/lab.ts';
import { dyingWithUs } from '../lab/process.ts';

/** A parent with hub replicas and a child whose agent is connected, shared by all tests of a file. */
export type SocketsEnv = {
  readonly parent: Lab;
  readonly hub: Hub;
  readonly child: Child;
  readonly agent: AgentProcess;
};

/** Starts all of it before the tests of the file and takes it down afterwards. */
export function socketsEnv(
  options: { parent?: LabOptions; hub?: HubOptions; child?: ChildOptions; agent?: AgentOptions | (() => AgentOptions) } = {},
): SocketsEnv {
  let parent: Lab | undefined;
  let hub: Hub | undefined;
  let child: Child | undefined;
  let agent: AgentProcess | undefined;
  beforeAll(async () => {
    const labs = await Promise.allSettled([
      startLab({ moto: false, kwok: false, nodes: [], ...options.parent }),
      startChild(options.child),
    ]);
    if (labs[0].status === 'fulfilled') parent = labs[0].value;
    if (labs[1].status === 'fulfilled') child = labs[1].value;
    for (const result of labs) if (result.status === 'rejected') throw result.reason;
    hub = await startHub(started(parent), { replicas: 2, flags: ['--shutdown-delay=0s'], ...options.hub });
    const agentOptions = typeof options.agent === 'function' ? options.agent() : options.agent;
    agent = await startAgent(started(child), started(parent), agentOptions);
  });
  // The child first: its agent goes with it.
  afterAll(async () => {
    await child?.stop();
    await parent?.stop();
  });
  return {
    get parent() {
      return started(parent);
    },
    get hub() {
      return started(hub);
    },
    get child() {
      return started(child);
    },
    get agent() {
      return started(agent);
    },
  };
}

function started<T>(part: T | undefined): T {
  if (part === undefined) throw new Error('the clusters are not up yet');
  return part;
}

export type SocketsGrant = {
  /** Of the parent. */
  user: string;
  /** Verbs on sockets/proxy. */
  verbs: readonly string[];
  /** Also the forms of clusternet v0.1, which kube-apiserver takes for subresources of their own. Default false. */
  oldForms?: boolean;
  /** Names of the sockets; default: all. */
  clusters?: readonly string[];
};

/** Lets a user of the parent use sockets, as an administrator would write it. */
export async function grantSockets(parent: Lab, { user, verbs, oldForms = false, clusters }: SocketsGrant): Promise<void> {
  const metadata = { name: `sockets-${user}` };
  const rules = [
    {
      apiGroups: ['proxies.clusternet.io'],
      resources: ['sockets/proxy', ...(oldForms ? ['sockets/http', 'sockets/https'] : [])],
      verbs,
      ...(clusters ? { resourceNames: clusters } : {}),
    },
  ];
  await applyObjects(parent, [
    { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole', metadata, rules },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: metadata.name },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }],
    },
  ]);
}

/** The real kubectl with one kubeconfig. */
export type Kubectl = {
  /** Resolves for every exit code. */
  run(args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Resolves with stdout, rejects with stderr when the exit code is not 0. */
  ok(args: readonly string[], options?: CommandOptions): Promise<string>;
  /** Runs until `stop`. */
  start(args: readonly string[], env?: Record<string, string>): RunningCommand;
};

export type RunningCommand = {
  /** All of stdout so far. */
  output(): string;
  errors(): string;
  /** The exit code, once it ended. */
  exitCode(): number | null;
  stop(): Promise<void>;
};

export function kubectlWith(lab: Lab, kubeconfig: string): Kubectl {
  const command = join(lab.bin, 'kubectl');
  const base = lab.commandEnv(kubeconfig);
  const run: Kubectl['run'] = (args, { env, ...rest } = {}) => runCommand(command, args, { ...rest, env: { ...base, ...env } });
  return {
    run,
    async ok(args, options) {
      const { code, stdout, stderr } = await run(args, options);
      if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: exit code ${code}: ${stderr}${stdout}`);
      return stdout;
    },
    start(args, env = {}) {
      const [program, all] = dyingWithUs(command, args);
      const process = spawn(program, all, { env: { ...base, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
      let output = '';
      let errors = '';
      process.stdout.on('data', (data: Buffer) => {
        output += data.toString();
      });
      process.stderr.on('data', (data: Buffer) => {
        errors += data.toString();
      });
      const closed = new Promise<void>((resolve) => {
        process.once('close', () => resolve());
        process.once('error', () => resolve());
      });
      return {
        output: () => output,
        errors: () => errors,
        exitCode: () => process.exitCode,
        async stop() {
          process.kill('SIGKILL');
          await closed;
        },
      };
    },
  };
}
