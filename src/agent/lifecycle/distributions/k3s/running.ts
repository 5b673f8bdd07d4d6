import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { MachineView } from '../../machine/machine.ts';
import { type Action, type Step, type StepContext, StepError } from '../../operations/step.ts';
import { getFromKube } from '../common/kube-access.ts';
import { kubectl } from '../common/kubectl.ts';
import { nodeName, onlyNode, waitNodeReady } from '../common/node-state.ts';
import { ask, run, step } from '../common/run.ts';
import { serverVersion } from './observe.ts';
import { KUBECONFIG, UNIT } from './paths.ts';

const API_MS = 10 * 60_000;
const NODE_MS = 10 * 60_000;
const ANSWER_MS = 3 * 60_000;
const KUBECTL = ['k3s', 'kubectl'];
const PROBLEM = /level=(?:error|fatal) (?:.*)/g;

const command = (argv: readonly string[], timeoutMs = 60_000): Action => ({
  kind: 'command',
  command: kubectl(KUBECONFIG, argv, { program: KUBECTL, timeoutMs }),
});

/** How often systemd may start k3s again before it is given up: it ends by itself for what another try does not cure. */
const MOST_RESTARTS = 3;

/** Words of k3s about what is wrong; empty when there are none. */
async function complaint(machine: MachineView): Promise<string> {
  const log = await machine.services.lastLog(UNIT, 50).catch(() => '');
  const said = log.match(PROBLEM)?.at(-1);
  return said ? `; k3s says: ${said}` : '';
}

async function demandReady(machine: MachineView, version: string | undefined, signal: AbortSignal): Promise<void> {
  try {
    await getFromKube(machine, KUBECONFIG, '/readyz', signal);
    const running = await serverVersion(machine, signal);
    if (version && running !== version) throw new Error(`the API server is ${running}, not ${version}`);
  } catch (error) {
    throw new StepError(`${error instanceof Error ? error.message : String(error)}${await complaint(machine)}`);
  }
}

async function givenUp(machine: MachineView): Promise<boolean> {
  const restarts = await ask(machine, ['systemctl', 'show', '-p', 'NRestarts', '--value', `${UNIT}.service`]);
  return Number(restarts?.trim()) >= MOST_RESTARTS;
}

/**
 * Starts k3s and waits until its API server, of `version` when one is given, answers, or, when `whoAsksAgain` looks afterwards, until k3s has ended several times. Not by systemctl's
 * own waiting: the first start imports images, which takes minutes on a slow disk.
 */
const startActions = (version: string | undefined, whoAsksAgain: boolean): Action[] => [
  { kind: 'service', unit: UNIT, change: 'enable' },
  run(['systemctl', 'start', '--no-block', `${UNIT}.service`]),
  {
    kind: 'wait',
    text: 'the API server is ready',
    timeoutMs: API_MS,
    until: async (machine, signal) => {
      try {
        await demandReady(machine, version, signal);
        return true;
      } catch (error) {
        if (whoAsksAgain && (await givenUp(machine))) return true;
        throw error;
      }
    },
  },
];

/** k3s starts, with the API server of `version`. Undo stops it, so that what is put back then is not in use. */
export function startStep(version: string | undefined): Step {
  return step({
    name: 'k3s-start',
    run: async () => startActions(version, true),
    verify: ({ machine, signal }) => demandReady(machine, version, signal),
    undo: stopIfThere,
    afterCrash: 'repeat',
  });
}

/** What stops k3s, also for after a restart of the machine; nothing without its unit. Pods go on running. */
export async function stopIfThere({ machine }: StepContext): Promise<Action[]> {
  if (!(await machine.services.exists(UNIT))) return [];
  return [
    { kind: 'service', unit: UNIT, change: 'stop' },
    { kind: 'service', unit: UNIT, change: 'disable' },
  ];
}

/** The node is Ready, with the kubelet of `version`. */
export function nodeReadyStep(version: string | undefined): Step {
  return step({ name: 'node-ready', run: async () => [waitNodeReady(KUBECONFIG, version, NODE_MS)], afterCrash: 'repeat' });
}

/** After a restart of the machine, in the middle of an operation, k3s may only be starting. */
const answers: Action = {
  kind: 'wait',
  text: 'the cluster answers',
  timeoutMs: ANSWER_MS,
  until: async (machine, signal) => (await onlyNode(machine, KUBECONFIG, signal)) !== undefined,
};

/**
 * Does nothing when it is done, and is the first of an operation on a cluster that runs: taken back last, when all files are the old ones again, it starts k3s and waits for the node.
 * `mustAnswer`: the cluster must be well before it is changed; one whose certificates have run out is not, and is what a rotation is for.
 */
export function runsAgainStep(before: ClusterSpec, mustAnswer: boolean): Step {
  return step({
    name: 'k3s-runs',
    run: async ({ machine }) => {
      if (!(await machine.services.exists(UNIT))) throw new StepError('there is no k3s on this machine');
      return mustAnswer ? [answers] : [];
    },
    undo: async ({ machine }) => {
      if (!(await machine.services.exists(UNIT))) return [];
      return [...startActions(before.version, false), waitNodeReady(KUBECONFIG, before.version, NODE_MS)];
    },
    afterCrash: 'repeat',
  });
}

/** k3s is stopped, and would not start with the machine: an operation that is cut here finds it so. */
export function stopStep(): Step {
  return step({
    name: 'k3s-stop',
    run: stopIfThere,
    verify: async ({ machine }) => {
      if (await machine.services.active(UNIT)) throw new Error('k3s still runs');
    },
    afterCrash: 'repeat',
  });
}

/** Keeps `paths` as they are while k3s is stopped; undo, with k3s stopped again, brings them back. */
export function snapshotStep(paths: readonly string[]): Step {
  return step({
    name: 'k3s-snapshot',
    run: async ({ machine }) => {
      if (await machine.services.active(UNIT)) throw new StepError('k3s runs: its datastore cannot be saved');
      return [{ kind: 'claim', paths }];
    },
    undo: stopIfThere,
  });
}

const cordoned = async ({ machine, signal }: StepContext): Promise<boolean> =>
  (await onlyNode(machine, KUBECONFIG, signal))?.spec?.unschedulable === true;

/** The node takes pods, or none. Undo turns it back where there is still a cluster. */
export function schedulingStep(cordon: boolean): Step {
  const change = ({ facts }: StepContext, to: boolean) => command([to ? 'cordon' : 'uncordon', nodeName(facts.hostname)]);
  return step({
    name: 'scheduling',
    check: async (context) => (await cordoned(context).catch(() => !cordon)) === cordon,
    run: async (context) => [answers, change(context, cordon)],
    verify: async (context) => {
      if ((await cordoned(context)) !== cordon) throw new Error(`the node is ${cordon ? 'not cordoned' : 'still cordoned'}`);
    },
    undo: async (context) => ((await cordoned(context).catch(() => !cordon)) === cordon ? [change(context, !cordon)] : []),
    afterCrash: 'repeat',
  });
}

const location = (url: string) => (url.startsWith('file://') ? decodeURIComponent(new URL(url).pathname) : url);

/** The network of a manifest. `before`: the one that a patch replaces, applied again when the patch is taken back. */
export function cniStep(url: string, before: string | undefined): Step {
  const apply = (manifest: string) => command(['apply', '--server-side', '--force-conflicts', '-f', location(manifest)], 180_000);
  return step({
    name: 'cni-manifest',
    run: async ({ machine }) => {
      if (url.startsWith('file://') && !(await machine.stat(location(url))))
        throw new StepError(`${location(url)}, the manifest of the CNI, does not exist`);
      return [{ kind: 'claim', paths: ['/etc/cni', '/opt/cni'] }, answers, apply(url)];
    },
    undo: async ({ machine }) => (before && (await machine.stat(KUBECONFIG)) ? [apply(before)] : []),
    afterCrash: 'repeat',
  });
}
