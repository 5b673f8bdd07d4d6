import type { MachineView } from '../../machine/machine.ts';
import type { Action } from '../../operations/step.ts';
import { ask, lines, run, tryRun } from '../common/run.ts';
import { CTR, STATIC_PODS } from './paths.ts';

const NAME_LABEL = 'io.kubernetes.container.name';
const NAMESPACE_LABEL = 'io.kubernetes.pod.namespace';

/** Ids of all containers that run. */
export async function runningTasks(machine: MachineView): Promise<string[]> {
  return lines(await ask(machine, [...CTR, 'tasks', 'ls'])).flatMap((line) => {
    const [id = '', , state] = line.split(/\s+/);
    return state === 'RUNNING' ? [id] : [];
  });
}

/** Ids of the containers that run, of one static pod. */
export async function runningContainers(machine: MachineView, name: string): Promise<string[]> {
  const filter = `labels."${NAMESPACE_LABEL}"==kube-system,labels."${NAME_LABEL}"==${name}`;
  const all = lines(await ask(machine, [...CTR, 'containers', 'ls', '-q', filter]));
  const running = await runningTasks(machine);
  return all.filter((id) => running.includes(id));
}

/** etcd writes its files; the others keep nothing, and an API server that is asked to end waits a minute for its watches. */
const signalOf = (name: string) => (name === 'etcd' ? 'SIGTERM' : 'SIGKILL');

/**
 * Ends the containers of static pods; the kubelet starts them again by itself, so a crash right after leaves nothing down. The manifests are not touched.
 */
export async function restartStaticPods(machine: MachineView, names: readonly string[] = STATIC_PODS): Promise<Action[]> {
  const actions: Action[] = [];
  for (const name of names) {
    for (const id of await runningContainers(machine, name)) {
      actions.push(run([...CTR, 'tasks', 'kill', '-s', signalOf(name), id], { allowExit: [0, 1] }));
      actions.push(waitEnded(name, id));
    }
  }
  return actions;
}

const waitEnded = (name: string, id: string): Action => ({
  kind: 'wait',
  text: `${name} has ended`,
  timeoutMs: 120_000,
  until: async (machine) => {
    if (!(await runningContainers(machine, name)).includes(id)) return true;
    throw new Error(`container ${id.slice(0, 12)} still runs`);
  },
});

/** With the kubelet stopped: ends every container of the control plane, etcd last, and waits until none runs. */
export async function stopStaticPods(machine: MachineView): Promise<Action[]> {
  const actions: Action[] = [];
  for (const name of [...STATIC_PODS].reverse()) {
    for (const id of await runningContainers(machine, name)) actions.push(tryRun([...CTR, 'tasks', 'kill', '-s', signalOf(name), id]));
  }
  actions.push({
    kind: 'wait',
    text: 'the control plane has ended',
    timeoutMs: 120_000,
    until: async (view) => {
      for (const name of STATIC_PODS) if ((await runningContainers(view, name)).length > 0) throw new Error(`${name} still runs`);
      return true;
    },
  });
  return actions;
}
