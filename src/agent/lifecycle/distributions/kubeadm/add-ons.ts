import type { V1DaemonSet, V1Deployment } from '@kubernetes/client-node';
import type { MachineView } from '../../machine/machine.ts';
import type { Action, Step } from '../../operations/step.ts';
import { getFromKube, KubeError } from '../common/kube-access.ts';
import { podReady, systemPods, whyNotReady } from '../common/node-state.ts';
import { step } from '../common/run.ts';
import { ADMIN_CONF } from './paths.ts';
import { isCordoned } from './scheduling.ts';
import { waitLocalPath, wantsLocalPath } from './storage.ts';

/** What kubeadm runs in pods besides the control plane. `app`: their label k8s-app. */
type AddOn = { title: string; path: string; app: string };

const KUBE_PROXY: AddOn = { title: 'kube-proxy', path: 'daemonsets/kube-proxy', app: 'kube-proxy' };
const CORE_DNS: AddOn = { title: 'CoreDNS', path: 'deployments/coredns', app: 'kube-dns' };

/** The image that an add-on is to run; undefined when somebody has taken it away, or wants none of it. */
async function wantedImage(machine: MachineView, { path }: AddOn, signal: AbortSignal): Promise<string | undefined> {
  const found = await getFromKube(machine, ADMIN_CONF, `/apis/apps/v1/namespaces/kube-system/${path}`, signal).catch((error: unknown) => {
    if (error instanceof KubeError && error.status === 404) return undefined;
    throw error;
  });
  const { spec } = (found ?? {}) as V1Deployment | V1DaemonSet;
  return spec && 'replicas' in spec && spec.replicas === 0 ? undefined : spec?.template.spec?.containers[0]?.image;
}

/**
 * Waits until a pod of the image that the add-on is to run now is ready: those of the one before go on running until then, and would hide that no new one ever starts. One is enough, as
 * at the install: a second one may never have had room.
 */
const waitNewPod = (addOn: AddOn): Action => ({
  kind: 'wait',
  text: `the new ${addOn.title} is ready`,
  timeoutMs: 300_000,
  until: async (machine, signal) => {
    const image = await wantedImage(machine, addOn, signal);
    if (image === undefined) return true;
    const pods = await systemPods(machine, ADMIN_CONF, signal, `k8s-app=${addOn.app}`);
    const fresh = pods.filter(({ spec }) => spec?.containers[0]?.image === image);
    if (fresh.some(podReady)) return true;
    throw new Error(`${addOn.title} (${image}) is ${whyNotReady(fresh[0])}`);
  },
});

/** What kubeadm's upgrade has rolled out runs. On a cordoned node only kube-proxy, whose pods begin there all the same. `name`: of the step. */
export function newAddOnsStep(name: string): Step {
  return step({
    name,
    run: async (context) => {
      const { spec } = context;
      if (await isCordoned(context)) return [waitNewPod(KUBE_PROXY)];
      return [waitNewPod(KUBE_PROXY), waitNewPod(CORE_DNS), ...(wantsLocalPath(spec) ? [waitLocalPath(spec)] : [])];
    },
    afterCrash: 'repeat',
  });
}
