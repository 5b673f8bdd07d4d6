import type { MachineView } from '../../machine/machine.ts';
import { type Action, type Step, StepError } from '../../operations/step.ts';
import { readLedger } from './ledger.ts';
import { lines, run, step, tryRun } from './run.ts';

const MODULES_FILE = '/etc/modules-load.d/fairlead-cluster.conf';
const SYSCTL_FILE = '/etc/sysctl.d/99-fairlead-cluster.conf';

/** Where a kernel shows that it has a feature, whether built in or loaded. */
const SIGNS: Readonly<Record<string, (machine: MachineView) => Promise<boolean>>> = {
  overlay: async (machine) => lines(await machine.read('/proc/filesystems')).some((line) => line.endsWith('overlay')),
  br_netfilter: async (machine) => (await machine.stat('/proc/sys/net/bridge/bridge-nf-call-iptables')) !== undefined,
};
const MODULES = Object.keys(SIGNS);

/** Names of loaded modules. */
export const loadedModules = async (machine: MachineView): Promise<string[]> =>
  lines(await machine.read('/proc/modules')).map((line) => line.split(' ')[0] ?? '');

/** Features that are not there yet, of those that the steps below want. */
export async function missingModules(machine: MachineView): Promise<string[]> {
  const there = await Promise.all(MODULES.map((name) => SIGNS[name]?.(machine)));
  return MODULES.filter((_, index) => !there[index]);
}

/** Whether `modprobe` knows the module. */
export const loadable = async (machine: MachineView, name: string): Promise<boolean> =>
  (await machine.which('modprobe')) !== undefined &&
  (await machine.inspect({ argv: ['modprobe', '--dry-run', name], timeoutMs: 10_000 }).then(
    () => true,
    () => false,
  ));

/** What is missing, and what has been loaded since the record of the install: the same answer while modules are being loaded, after a crash and in a repair. */
async function modulesToLoad(machine: MachineView): Promise<string[]> {
  const [missing, now, before] = [await missingModules(machine), await loadedModules(machine), (await readLedger(machine))?.modules];
  return MODULES.filter((name) => missing.includes(name) || (before && now.includes(name) && !before.includes(name)));
}

/** overlay and br_netfilter are there now and after a restart. A kernel that has them built in needs nothing. */
export function kernelModulesStep(): Step {
  return step({
    name: 'kernel-modules',
    check: async ({ machine }) => (await missingModules(machine)).length === 0,
    run: async ({ machine }) => [
      { kind: 'write', path: MODULES_FILE, content: `${(await modulesToLoad(machine)).join('\n')}\n`, mode: 0o644 },
      ...(await missingModules(machine)).map((name): Action => run(['modprobe', name])),
    ],
    verify: async ({ machine }) => {
      const missing = await missingModules(machine);
      if (missing.length > 0) throw new StepError(`the kernel has no ${missing.join(', ')}`);
    },
    undo: async ({ machine }) => {
      const before = (await readLedger(machine))?.modules;
      const now = await loadedModules(machine);
      // In use by something else it stays: that is then not ours to take away.
      return before
        ? MODULES.filter((name) => now.includes(name) && !before.includes(name)).map((name) => tryRun(['modprobe', '-r', name]))
        : [];
    },
    afterCrash: 'repeat',
  });
}

/** Values that pods' traffic needs. The bridge ones are not there in a kernel whose bridges do not pass through iptables at all. */
export function wantedSysctls(dualStack: boolean): Record<string, string> {
  return {
    'net.bridge.bridge-nf-call-iptables': '1',
    'net.ipv4.ip_forward': '1',
    ...(dualStack && { 'net.bridge.bridge-nf-call-ip6tables': '1', 'net.ipv6.conf.all.forwarding': '1' }),
  };
}

/** Values that kubelet, kube-proxy and CNI change by themselves: taken back together with ours. */
const CHANGED_BY_OTHERS = [
  'vm.overcommit_memory',
  'vm.panic_on_oom',
  'kernel.panic',
  'kernel.panic_on_oops',
  'kernel.keys.root_maxkeys',
  'kernel.keys.root_maxbytes',
  'net.ipv4.conf.all.route_localnet',
  'net.ipv4.vs.conntrack',
  'net.netfilter.nf_conntrack_max',
  'net.netfilter.nf_conntrack_tcp_timeout_established',
  'net.netfilter.nf_conntrack_tcp_timeout_close_wait',
  'net.ipv6.conf.all.forwarding',
  'net.ipv6.conf.default.forwarding',
];

const fileOf = (name: string) => `/proc/sys/${name.replaceAll('.', '/')}`;

/** Running values of everything that this installation may change; what the kernel does not have is left out. */
export async function runningSysctls(machine: MachineView): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of [...new Set([...Object.keys(wantedSysctls(true)), ...CHANGED_BY_OTHERS])]) {
    const value = (await machine.read(fileOf(name)))?.trim();
    if (value !== undefined) found[name] = value.replaceAll(/\s+/g, ' ');
  }
  return found;
}

/** The sysctls of `wanted` that are not so. */
async function different(machine: MachineView, wanted: Record<string, string>): Promise<string[]> {
  const names: string[] = [];
  for (const [name, value] of Object.entries(wanted)) if ((await machine.read(fileOf(name)))?.trim() !== value) names.push(name);
  return names;
}

const settings = (values: Record<string, string>) =>
  Object.entries(values)
    .map(([name, value]) => `${name} = ${value}\n`)
    .join('');

/** Forwarding and bridged traffic, now and after a restart. Undo gives the running values back. */
export function sysctlsStep(dualStack: boolean): Step {
  const wanted = wantedSysctls(dualStack);
  return step({
    name: 'sysctls',
    check: async ({ machine }) => (await different(machine, wanted)).length === 0 && (await machine.read(SYSCTL_FILE)) === settings(wanted),
    run: async ({ machine }) => [
      { kind: 'write', path: SYSCTL_FILE, content: settings(wanted), mode: 0o644 },
      ...(await different(machine, wanted)).map((name): Action => run(['sysctl', '-w', `${name}=${wanted[name]}`])),
    ],
    verify: async ({ machine }) => {
      const wrong = await different(machine, wanted);
      if (wrong.length > 0) throw new StepError(`the kernel did not take ${wrong.join(', ')}`);
    },
    undo: async ({ machine }) => {
      const before = (await readLedger(machine))?.sysctls ?? {};
      const now = await runningSysctls(machine);
      return Object.entries(before)
        .filter(([name, value]) => now[name] !== undefined && now[name] !== value)
        .map(([name, value]) => tryRun(['sysctl', '-w', `${name}=${value}`]));
    },
    afterCrash: 'repeat',
  });
}
