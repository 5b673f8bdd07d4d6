import type { Facts, MachineView } from '../../machine/machine.ts';
import { type Step, StepError } from '../../operations/step.ts';
import { chainsNamedAlike, nftTables } from '../common/firewall.ts';
import { loadedModules, runningSysctls } from '../common/kernel.ts';
import { LEDGER_FILE, type Ledger, readLedger } from '../common/ledger.ts';
import { interfaces } from '../common/leftovers.ts';
import { commonProblems } from '../common/preflight.ts';
import { ask, step } from '../common/run.ts';
import { parseVersion } from '../common/versions.ts';
import { missingPackages } from './container-runtime.ts';
import { presentImages, versionOf } from './images.ts';
import { ADMIN_CONF, CONTAINERD_CONFIG, CTR, MANIFESTS, PKI } from './paths.ts';

/** API server, kubelet, controller manager, scheduler, etcd. */
const PORTS = [6443, 10250, 10257, 10259, 2379, 2380];
/** What shows that a cluster is, or was, on the machine. */
const SIGNS = [
  ADMIN_CONF,
  `${PKI}/ca.key`,
  '/etc/kubernetes/kubelet.conf',
  '/var/lib/etcd/member',
  '/etc/rancher/k3s/k3s.yaml',
  '/var/lib/rancher/k3s/server',
];

/** The machine can carry a cluster and carries none. Changes nothing. */
export function preflightStep(): Step {
  return step({
    name: 'preflight',
    run: async (context) => {
      const { machine, facts } = context;
      const problems: string[] = [];
      for (const path of SIGNS) if (await machine.stat(path)) problems.push(`there is a cluster on the machine: ${path} exists`);
      if ((await machine.list(MANIFESTS)).some((name) => !name.startsWith('.'))) problems.push(`there are static pods in ${MANIFESTS}`);
      if (problems.length > 0) throw new StepError(`the machine is not ready for a cluster: ${problems.join('; ')}`, 'kubeadm reset');
      problems.push(...(await commonProblems(machine, facts, PORTS)));
      const runtime = await runtimeProblem(await ask(machine, ['containerd', '--version']), versionOf(context.spec));
      if (runtime) problems.push(runtime);
      if (await foreignContainerd(machine, facts)) {
        problems.push('containerd runs, started by somebody else than this agent, and without systemd two of it would run: stop it');
      }
      for (const file of context.spec.clusterRuntime?.clusterCri?.certFiles ?? []) {
        if (!(await machine.stat(file))) problems.push(`${file}, a CA of the registry, does not exist`);
      }
      if (problems.length > 0) throw new StepError(`the machine is not ready for a cluster: ${problems.join('; ')}`);
      return [];
    },
    afterCrash: 'repeat',
  });
}

/** kubelet 1.37 refuses a runtime without the call RuntimeConfig, which containerd has since 2.0. */
export function runtimeProblem(containerd: string | undefined, version: string): string | undefined {
  const found = /\bv?(\d+)\.(\d+)\.\d+/.exec(containerd ?? '');
  const minor = parseVersion(version)?.minor ?? 0;
  if (!found || minor < 37 || Number(found[1]) >= 2) return undefined;
  return `containerd ${found[0]} is too old for ${version}: it needs containerd 2`;
}

/** Without systemd the agent knows only what it has started itself. */
async function foreignContainerd(machine: MachineView, facts: Facts): Promise<boolean> {
  if (facts.initSystem === 'systemd' || (await machine.services.active('containerd'))) return false;
  return (await ask(machine, [...CTR, 'version'], 10_000)) !== undefined;
}

/**
 * Writes down what the machine is before anything changes. What an earlier install wrote down stays, when somebody removed its cluster by hand: what that made, and what is still there,
 * was not there before. A deletion takes it away with the other files.
 */
export function recordStep(): Step {
  return step({
    name: 'record',
    check: async ({ machine }) => (await readLedger(machine)) !== undefined,
    run: async ({ machine }) => {
      const [content, info] = [await machine.read(CONTAINERD_CONFIG), await machine.stat(CONTAINERD_CONFIG)];
      const ledger: Ledger = {
        sysctls: await runningSysctls(machine),
        modules: await loadedModules(machine),
        interfaces: await interfaces(machine),
        images: await presentImages(machine),
        packages: await missingPackages(machine),
        chains: await chainsNamedAlike(machine),
        nftTables: await nftTables(machine),
        containerd: {
          active: await machine.services.active('containerd'),
          enabled: await machine.services.enabled('containerd'),
          config: content === undefined ? undefined : { content, mode: (info?.mode ?? 0o644) & 0o777 },
        },
      };
      return [{ kind: 'write', path: LEDGER_FILE, content: `${JSON.stringify(ledger, undefined, 1)}\n`, mode: 0o600 }];
    },
    verify: async ({ machine }) => {
      if ((await machine.read(LEDGER_FILE)) === undefined) throw new Error(`${LEDGER_FILE} is not there`);
    },
  });
}
