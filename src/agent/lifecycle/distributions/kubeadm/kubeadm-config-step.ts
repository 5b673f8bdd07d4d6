import type { MachineView } from '../../machine/machine.ts';
import type { Step, StepContext } from '../../operations/step.ts';
import { step } from '../common/run.ts';
import { kubeadmConfig } from './config.ts';
import { imageRepository } from './images.ts';
import { KUBEADM_CONFIG } from './paths.ts';

const CONNTRACK_MAX = '/proc/sys/net/netfilter/nf_conntrack_max';

/** The kernel shows the value without the right to write it in every network namespace but the first. */
async function conntrackWritable(machine: MachineView): Promise<boolean> {
  const info = await machine.stat(CONNTRACK_MAX);
  return info === undefined || (info.mode & 0o200) !== 0;
}

/** kubeadm's configuration of a spec on this machine. */
export async function configText(context: StepContext): Promise<string> {
  const { machine, facts, spec } = context;
  return kubeadmConfig(spec, { facts, repository: await imageRepository(context), conntrackWritable: await conntrackWritable(machine) });
}

/** kubeadm's configuration, in a file that only root reads. `name`: of the step. */
export function kubeadmConfigStep(name: string): Step {
  return step({
    name,
    check: async (context) => (await context.machine.read(KUBEADM_CONFIG)) === (await configText(context)),
    run: async (context) => [{ kind: 'write', path: KUBEADM_CONFIG, content: await configText(context), mode: 0o600 }],
    verify: async ({ machine }) => {
      if ((await machine.read(KUBEADM_CONFIG)) === undefined) throw new Error(`${KUBEADM_CONFIG} is not there`);
    },
    afterCrash: 'repeat',
  });
}
