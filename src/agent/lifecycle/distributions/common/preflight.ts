import type { Facts, MachineView } from '../../machine/machine.ts';
import { loadable, missingModules } from './kernel.ts';
import { lines } from './run.ts';

/** kubeadm's own limit: 1,700 MB. */
const MIN_MEMORY = 1_700 * 1_000_000;
const LISTEN = '0A';

/** Local TCP ports that something listens on, from /proc/net/tcp and tcp6. */
export async function listeningPorts(machine: MachineView): Promise<Set<number>> {
  const ports = new Set<number>();
  for (const path of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of lines(await machine.read(path)).slice(1)) {
      const [, local = '', , state] = line.split(/\s+/);
      if (state === LISTEN) ports.add(Number.parseInt(local.split(':')[1] ?? '', 16));
    }
  }
  return ports;
}

/** What stands against a cluster on this machine, whatever the distribution: one line each, with what would clear it. */
export async function commonProblems(machine: MachineView, facts: Facts, ports: readonly number[]): Promise<string[]> {
  const problems: string[] = [];
  if (facts.memoryBytes < MIN_MEMORY)
    problems.push(`the machine has ${Math.round(facts.memoryBytes / 1_000_000)} MB of memory; a control plane needs 1700`);
  if (facts.cpus < 1) problems.push('the machine has no CPU');
  if (facts.addresses.length === 0) problems.push('the machine has no address but loopback: give it one');
  if (!/^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/.test(facts.hostname.toLowerCase())) {
    problems.push(`the machine's name ${JSON.stringify(facts.hostname)} cannot be a node's name: set another with hostnamectl`);
  }
  const listening = await listeningPorts(machine);
  const taken = ports.filter((port) => listening.has(port));
  if (taken.length > 0) problems.push(`something listens on port ${taken.join(', ')}: stop it`);
  for (const name of await missingModules(machine)) {
    if (!(await loadable(machine, name))) problems.push(`the kernel has no ${name}, neither built in nor as a module`);
  }
  return problems;
}
