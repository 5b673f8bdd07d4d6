import type { V1Node, V1NodeList, V1Pod, V1PodList } from '@kubernetes/client-node';
import type { MachineView } from '../../machine/machine.ts';
import type { Action } from '../../operations/step.ts';
import { getFromKube } from './kube-access.ts';

/** A node's name: the machine's name as Kubernetes wants it. */
export const nodeName = (hostname: string) => hostname.trim().toLowerCase();

export type NodeState = { ready: boolean; why: string; kubeletVersion: string; unschedulable: boolean };

/** State of a node object. */
export function nodeState(node: V1Node): NodeState {
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready');
  return {
    ready: ready?.status === 'True',
    why: ready?.status === 'True' ? '' : (ready?.message ?? 'the node has not reported its state'),
    kubeletVersion: node.status?.nodeInfo?.kubeletVersion ?? '',
    unschedulable: node.spec?.unschedulable === true,
  };
}

/** The only node of the cluster; undefined while it has not registered. */
export async function onlyNode(machine: MachineView, kubeconfig: string, signal: AbortSignal): Promise<V1Node | undefined> {
  const { items } = (await getFromKube(machine, kubeconfig, '/api/v1/nodes?limit=2', signal)) as V1NodeList;
  return items[0];
}

/** Pods of a namespace, at most 200; `selector` by labels, '' for all. */
export async function podsIn(
  machine: MachineView,
  kubeconfig: string,
  namespace: string,
  signal: AbortSignal,
  selector: string,
): Promise<V1Pod[]> {
  const query = selector ? `&labelSelector=${encodeURIComponent(selector)}` : '';
  const path = `/api/v1/namespaces/${namespace}/pods?limit=200${query}`;
  return ((await getFromKube(machine, kubeconfig, path, signal)) as V1PodList).items;
}

/** Pods of kube-system, at most 200. */
export const systemPods = (machine: MachineView, kubeconfig: string, signal: AbortSignal, selector = ''): Promise<V1Pod[]> =>
  podsIn(machine, kubeconfig, 'kube-system', signal, selector);

/** Whether a pod runs and its containers are ready. */
export const podReady = (pod: V1Pod) =>
  pod.status?.phase === 'Running' && pod.status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;

/** One word for why a pod is not ready: what its first container waits for, else its phase; 'not there' without a pod. */
export const whyNotReady = (pod: V1Pod | undefined): string =>
  pod?.status?.containerStatuses?.[0]?.state?.waiting?.reason ?? pod?.status?.phase ?? 'not there';

/** Waits until the node is Ready, with a kubelet of `version` when one is given. */
export function waitNodeReady(kubeconfig: string, version: string | undefined, timeoutMs: number): Action {
  return {
    kind: 'wait',
    text: `the node is Ready${version ? ` with kubelet ${version}` : ''}`,
    timeoutMs,
    until: async (machine, signal) => {
      const node = await onlyNode(machine, kubeconfig, signal);
      if (!node) throw new Error('the node has not registered');
      const { ready, why, kubeletVersion } = nodeState(node);
      if (!ready) throw new Error(`the node is not Ready: ${why}`);
      if (version && kubeletVersion !== version) throw new Error(`the node's kubelet is ${kubeletVersion}, not ${version}`);
      return true;
    },
  };
}

/** Waits until the API server is ready: after a power cut the agent may be back before it. */
export const waitApi = (kubeconfig: string, timeoutMs = 300_000): Action => ({
  kind: 'wait',
  text: 'the API server is ready',
  timeoutMs,
  until: async (machine, signal) => {
    await getFromKube(machine, kubeconfig, '/readyz', signal);
    return true;
  },
});
