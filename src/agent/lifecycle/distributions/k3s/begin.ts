import { type Step, StepError } from '../../operations/step.ts';
import { nftTables } from '../common/firewall.ts';
import { loadedModules, runningSysctls } from '../common/kernel.ts';
import { LEDGER_FILE, type Ledger, readLedger } from '../common/ledger.ts';
import { interfaces, leftoverCleaning } from '../common/leftovers.ts';
import { commonProblems } from '../common/preflight.ts';
import { step } from '../common/run.ts';
import { BINARY, KUBECONFIG, MADE, PORTS, SERVER } from './paths.ts';

/** What shows that a cluster is, or was, on the machine. */
const SIGNS = [
  KUBECONFIG,
  SERVER,
  BINARY,
  '/etc/systemd/system/k3s.service',
  '/etc/systemd/system/k3s-agent.service',
  '/etc/kubernetes/admin.conf',
  '/etc/kubernetes/pki/ca.key',
];

/** The machine can carry k3s and carries no cluster. Changes nothing. */
export function preflightStep(): Step {
  return step({
    name: 'preflight',
    run: async ({ machine, facts, spec }) => {
      const problems: string[] = [];
      for (const path of SIGNS) if (await machine.stat(path)) problems.push(`there is a cluster on the machine: ${path} exists`);
      if (problems.length > 0) throw new StepError(`the machine is not ready for a cluster: ${problems.join('; ')}`, 'k3s-uninstall.sh');
      problems.push(...(await commonProblems(machine, facts, PORTS)));
      // The official installer knows OpenRC too; the agent does not.
      if (facts.initSystem !== 'systemd') problems.push('k3s needs systemd');
      for (const file of spec.clusterRuntime?.clusterCri?.certFiles ?? []) {
        if (!(await machine.stat(file))) problems.push(`${file}, a CA of the registry, does not exist`);
      }
      if (problems.length > 0) throw new StepError(`the machine is not ready for a cluster: ${problems.join('; ')}`);
      return [];
    },
    afterCrash: 'repeat',
  });
}

/**
 * Writes down what the machine is before anything changes, and claims what k3s will make. Being the first, it is the last that is taken back: what k3s's own scripts left behind is
 * cleaned then, before the folders go. What an earlier install wrote down stays, when somebody removed its cluster by hand: what that made, and what is still there, was not there before.
 */
export function recordStep(): Step {
  return step({
    name: 'record',
    run: async ({ machine }) => {
      // Not by `check`: a step that is skipped is not taken back, and would leave what this install makes.
      const ledger: Ledger = (await readLedger(machine)) ?? {
        sysctls: await runningSysctls(machine),
        modules: await loadedModules(machine),
        interfaces: await interfaces(machine),
        images: [],
        packages: [],
        nftTables: await nftTables(machine),
        // k3s brings a containerd of its own; that of the machine is left alone.
        containerd: { active: false, enabled: false, config: undefined },
      };
      return [
        { kind: 'claim', paths: MADE },
        { kind: 'write', path: LEDGER_FILE, content: `${JSON.stringify(ledger, undefined, 1)}\n`, mode: 0o600 },
      ];
    },
    verify: async ({ machine }) => {
      if ((await machine.read(LEDGER_FILE)) === undefined) throw new Error(`${LEDGER_FILE} is not there`);
    },
    undo: async ({ machine }) => {
      // Without a ledger nothing was begun; with it, whatever k3s left is what was not there before.
      if ((await machine.read(LEDGER_FILE)) === undefined) return [];
      return [...(await leftoverCleaning(machine, ['k3s', 'ctr', '-n', 'k8s.io'])), { kind: 'service', unit: '', change: 'daemon-reload' }];
    },
    afterCrash: 'repeat',
  });
}
