import type { MachineView } from '../../machine/machine.ts';
import type { Action } from '../../operations/step.ts';
import { firewallCleaning } from './firewall.ts';
import { readLedger } from './ledger.ts';
import { ask, lines, tryRun } from './run.ts';

/** Other namespaces of the same containerd (Docker's) are not touched. */
const MOUNTS =
  /^(\/var\/lib\/kubelet|\/run\/containerd\/io\.containerd\.(runtime\.v[12]\.task\/k8s\.io|grpc\.v1\.cri)|\/run\/k3s|\/var\/lib\/rancher\/k3s)(\/|$)/;
const INTERFACES =
  /^(cni0|kube-ipvs0|kube-bridge|nodelocaldns|flannel[.-].*|cilium_.*|vxlan\.calico|cali[0-9a-f]{11}|lxc_health|lxc[0-9a-f]{12,})$/;
const NAMESPACES = /^cni-[0-9a-f-]+$/;
/** Pods' ends of the bridge's cables. */
const BRIDGE_PORTS = '/sys/class/net/cni0/brif';

const unescaped = (path: string) => path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Names of the network interfaces. */
export const interfaces = async (machine: MachineView): Promise<string[]> =>
  lines(await machine.read('/proc/net/dev'))
    .slice(2)
    .map((line) => line.split(':')[0]?.trim() ?? '');

/** Containers of containerd's namespace k8s.io; empty when containerd does not answer. */
const containers = async (machine: MachineView, ctr: readonly string[]) => lines(await ask(machine, [...ctr, 'containers', 'ls', '-q']));

/**
 * Actions that end what a distribution's own reset left behind: containers, mounts, network namespaces, interfaces, packet filter rules, control groups. `ctr` is how containerd is
 * asked. Made of what is there now, so that it can be done again.
 */
export async function leftoverCleaning(machine: MachineView, ctr: readonly string[]): Promise<Action[]> {
  const before = await readLedger(machine);
  const actions: Action[] = [];
  const tasks = lines(await ask(machine, [...ctr, 'tasks', 'ls', '-q']));
  for (const id of tasks)
    actions.push(tryRun([...ctr, 'tasks', 'kill', '-s', 'SIGKILL', id]), tryRun([...ctr, 'tasks', 'delete', '-f', id]));
  const left = await containers(machine, ctr);
  for (const id of left) actions.push(tryRun([...ctr, 'containers', 'delete', id]));
  // Deepest first; a mount in use is taken away lazily.
  const mounts = lines(await machine.read('/proc/mounts'))
    .map((line) => unescaped(line.split(' ')[1] ?? ''))
    .filter((path) => MOUNTS.test(path));
  for (const path of mounts.sort().reverse()) actions.push(tryRun(['umount', '-l', path]));
  // Where the reset ended every pod it has taken the namespaces away too; what is there then is of other users of CNI.
  if (left.length > 0) {
    for (const name of await machine.list('/run/netns')) if (NAMESPACES.test(name)) actions.push(tryRun(['ip', 'netns', 'delete', name]));
  }
  const ports = await machine.list(BRIDGE_PORTS);
  for (const name of new Set([...ports, ...(await interfaces(machine))])) {
    if (before && (ports.includes(name) || INTERFACES.test(name)) && !before.interfaces.includes(name))
      actions.push(tryRun(['ip', 'link', 'delete', name]));
  }
  actions.push(...(await firewallCleaning(machine, before)));
  actions.push(tryRun(['find', '/sys/fs/cgroup', '-depth', '-type', 'd', '-path', '*/kubepods*', '-delete']));
  if (await machine.services.active('kubepods.slice')) actions.push(tryRun(['systemctl', 'stop', 'kubepods.slice']));
  actions.push({ kind: 'remove', path: '/run/fairlead-kubectl' });
  return actions;
}

/** Waits until containerd runs nothing of Kubernetes any more: its folder must not be taken away under a container. */
export function waitNoContainers(ctr: readonly string[]): Action {
  return {
    kind: 'wait',
    text: 'no container is left',
    timeoutMs: 60_000,
    until: async (machine) => {
      const left = await containers(machine, ctr);
      if (left.length > 0) throw new Error(`${left.length} containers are left`);
      return true;
    },
  };
}
