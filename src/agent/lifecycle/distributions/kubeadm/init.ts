import type { V1Pod } from '@kubernetes/client-node';
import { parseDocument } from 'yaml';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { Facts, MachineView } from '../../machine/machine.ts';
import type { Action, Step } from '../../operations/step.ts';
import { getFromKube } from '../common/kube-access.ts';
import { podReady, systemPods, waitApi, waitNodeReady, whyNotReady } from '../common/node-state.ts';
import { ask, run, step, tryRun } from '../common/run.ts';
import { ignoredPreflight } from './config.ts';
import { versionOf } from './images.ts';
import { ADMIN_CONF, CONTAINERD_SOCKET, KUBEADM_CONFIG, MANIFESTS, STATIC_PODS } from './paths.ts';
import { isCordoned } from './scheduling.ts';
import { runningTasks } from './static-pods.ts';
import { waitLocalPath, wantsLocalPath } from './storage.ts';

/** What kubeadm, kubelet and the containers of the control plane make besides. */
const MADE = [
  '/etc/kubernetes',
  '/var/lib/kubelet',
  '/var/lib/etcd',
  '/etc/cni',
  '/var/lib/cni',
  '/opt/cni',
  '/var/log/pods',
  '/var/log/containers',
  '/usr/libexec/kubernetes',
];

const MODULES = '/usr/lib/modules';

/** The control plane, by kubeadm. A half-made one is taken back before it is made anew, because kubeadm does not repair what it finds. */
export function controlPlaneStep(): Step {
  return step({
    name: 'control-plane',
    run: async ({ machine, facts }) => {
      // kube-proxy mounts it, and where it is missing it is made; where it is there it is far too large to be saved.
      const made = (await machine.stat(MODULES)) ? MADE : [...MADE, MODULES];
      return [
        { kind: 'claim', paths: made },
        // kubeadm's reset removes /etc/cni/net.d, and what is put back is another folder than the one that containerd watches since it began: it would never see the network.
        { kind: 'service', unit: 'containerd', change: 'restart' },
        ...initActions(facts),
      ];
    },
    verify: async ({ machine, spec, signal }) => {
      const version = await apiVersion(machine, signal);
      if (version !== versionOf(spec)) throw new Error(`the API server is ${version}, not ${versionOf(spec)}`);
    },
    undo: ({ machine }) => resetActions(machine),
    afterCrash: 'undo',
  });
}

const INIT_MS = 900_000;

/**
 * kubeadm starts the kubelet by systemd, in the middle of its init. Where there is none its phases before that are run apart, because without their files the kubelet ends at once, or looks
 * for static pods only after 20 seconds.
 */
function initActions(facts: Facts): Action[] {
  const config = ['--config', KUBEADM_CONFIG];
  const ignored = ignoredPreflight(facts);
  const ignoring = ignored.length > 0 ? [`--ignore-preflight-errors=${ignored.join(',')}`] : [];
  const init = (skipped: readonly string[], ...more: string[]) =>
    run(['kubeadm', 'init', ...config, '--skip-token-print', `--skip-phases=${[...skipped, 'addon/coredns'].join(',')}`, ...more], {
      timeoutMs: INIT_MS,
    });
  if (facts.initSystem === 'systemd') return [init([], ...ignoring)];
  const phase = (...words: string[]) => run(['kubeadm', 'init', 'phase', ...words], { timeoutMs: INIT_MS });
  return [
    phase('preflight', ...config, ...ignoring),
    phase('certs', 'all', ...config),
    phase('kubeconfig', 'all', ...config),
    phase('etcd', 'local', ...config),
    phase('control-plane', 'all', ...config),
    phase('kubelet-start', ...config),
    { kind: 'service', unit: 'kubelet', change: 'start' },
    init(['preflight', 'certs', 'kubeconfig', 'etcd', 'control-plane', 'kubelet-start']),
  ];
}

/** kubeadm's own reset, with the kubelet stopped so that it does not start pods again meanwhile. */
export async function resetActions(machine: MachineView): Promise<Action[]> {
  const reset = ['kubeadm', 'reset', '--force', '--cri-socket', CONTAINERD_SOCKET];
  return [
    ...((await machine.services.exists('kubelet')) ? [{ kind: 'service', unit: 'kubelet', change: 'stop' } as const] : []),
    ...((await machine.which('kubeadm')) ? [tryRun(reset, 300_000)] : []),
  ];
}

/** `v1.36.3`, asked of the API server. */
export async function apiVersion(machine: MachineView, signal: AbortSignal): Promise<string> {
  const answer = (await getFromKube(machine, ADMIN_CONF, '/version', signal)) as { gitVersion?: string };
  return answer.gitVersion ?? '';
}

/** Static pods of the control plane that are not ready; with their reason. */
export async function controlPlaneProblems(machine: MachineView, signal: AbortSignal): Promise<string[]> {
  const pods = await systemPods(machine, ADMIN_CONF, signal, 'tier=control-plane');
  return STATIC_PODS.flatMap((name) => {
    const pod = pods.find(({ metadata }) => metadata?.labels?.['component'] === name);
    if (pod && podReady(pod)) return [];
    return [`${name} is ${whyNotReady(pod)}`];
  });
}

/**
 * What the API server does not know yet of the static pods: it shows a pod of an older manifest, or a container that has ended, until the kubelet has told.
 */
async function staleProblems(machine: MachineView, signal: AbortSignal): Promise<string[]> {
  const running = await runningTasks(machine);
  const pods = await systemPods(machine, ADMIN_CONF, signal, 'tier=control-plane');
  const problems: string[] = [];
  for (const name of STATIC_PODS) {
    const pod = pods.find(({ metadata }) => metadata?.labels?.['component'] === name);
    const manifest = parseDocument((await machine.read(`${MANIFESTS}/${name}.yaml`)) ?? '').toJS({ maxAliasCount: 0 }) as V1Pod | null;
    const [shown, wanted] = [pod?.spec?.containers[0], manifest?.spec?.containers[0]];
    if (wanted && (shown?.image !== wanted.image || shown?.command?.join('\0') !== wanted.command?.join('\0'))) {
      problems.push(`${name} is still of the older manifest`);
    } else if (!running.includes(pod?.status?.containerStatuses?.[0]?.containerID?.replace('containerd://', '') ?? '')) {
      problems.push(`${name} has not been reported anew`);
    }
  }
  return problems;
}

/** Waits until all four static pods are ready, as their manifests say, in containers that run. */
export const waitControlPlane = (timeoutMs = 300_000): Action => ({
  kind: 'wait',
  text: 'the control plane runs',
  timeoutMs,
  until: async (machine, signal) => {
    const problems = await controlPlaneProblems(machine, signal);
    if (problems.length === 0) problems.push(...(await staleProblems(machine, signal)));
    if (problems.length > 0) throw new Error(problems.join(', '));
    return true;
  },
});

/** Waits until CoreDNS answers, where its image is there: without one it is pulled later, or never. */
const waitDns: Action = {
  kind: 'wait',
  text: 'CoreDNS is ready',
  timeoutMs: 300_000,
  until: async (machine, signal) => {
    const images = await ask(machine, ['ctr', '-n', 'k8s.io', 'images', 'ls', '-q']);
    if (!images?.includes('/coredns')) return true;
    const pods = await systemPods(machine, ADMIN_CONF, signal, 'k8s-app=kube-dns');
    if (pods.some(podReady)) return true;
    throw new Error(`CoreDNS is ${whyNotReady(pods[0])}`);
  },
};

/** Waits until kube-proxy runs; at once where there shall be none. */
const waitKubeProxy = (spec: ClusterSpec): Action[] =>
  spec.networking?.cilium?.installKubeProxy === false
    ? []
    : [
        {
          kind: 'wait',
          text: 'kube-proxy runs',
          timeoutMs: 300_000,
          until: async (machine, signal) => {
            const pods = await systemPods(machine, ADMIN_CONF, signal, 'k8s-app=kube-proxy');
            if (pods.some(podReady)) return true;
            throw new Error(`kube-proxy is ${whyNotReady(pods[0])}`);
          },
        },
      ];

/**
 * CoreDNS, by kubeadm, after kube-proxy: where it comes first, its first connection to the API server is lost, and it waits 30 seconds for that.
 */
export function dnsStep(): Step {
  return step({
    name: 'dns',
    run: async ({ spec }) => [
      waitApi(ADMIN_CONF),
      ...waitKubeProxy(spec),
      run(['kubeadm', 'init', 'phase', 'addon', 'coredns', '--config', KUBEADM_CONFIG], { timeoutMs: 120_000 }),
    ],
    afterCrash: 'repeat',
  });
}

/** The node is Ready, with a kubelet of `version` when one is given, and the cluster's own pods run. `name`: of the step. */
export function nodeReadyStep(name: string, version?: string): Step {
  return step({
    name,
    run: async (context) => {
      const { spec } = context;
      const cordoned = await isCordoned(context).catch(() => false);
      // On a cordoned node no new pod begins.
      const pods = cordoned ? [] : [waitDns, ...(wantsLocalPath(spec) ? [waitLocalPath(spec)] : [])];
      return [waitNodeReady(ADMIN_CONF, version, 300_000), waitControlPlane(), ...pods];
    },
    afterCrash: 'repeat',
  });
}
