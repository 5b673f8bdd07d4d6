import type { MachineView } from '../../machine/machine.ts';
import { getFromKube } from '../common/kube-access.ts';
import { nodeState, onlyNode } from '../common/node-state.ts';
import type { Observation } from '../distribution.ts';
import { KUBECONFIG } from './paths.ts';

const text = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** Version of the API server, `v1.36.3+k3s1`. Rejects when it does not answer. */
export async function serverVersion(machine: MachineView, signal: AbortSignal): Promise<string> {
  const answer = await getFromKube(machine, KUBECONFIG, '/version', signal);
  const version: unknown = typeof answer === 'object' && answer !== null ? Reflect.get(answer, 'gitVersion') : undefined;
  if (typeof version !== 'string') throw new Error('the API server does not tell its version');
  return version;
}

/** A look at the cluster: three requests over one kept connection. The parts of k3s are one process, which answers /readyz when all of them are up. */
export async function observeK3s(machine: MachineView, signal: AbortSignal): Promise<Observation> {
  const seen: Observation = {
    installed: true,
    nodeReady: false,
    controlPlaneReady: false,
    cniReady: false,
    unschedulable: false,
    message: '',
  };
  if (!(await machine.stat(KUBECONFIG))) return { ...seen, installed: false, message: 'there is no k3s on this machine' };
  try {
    seen.version = await serverVersion(machine, signal);
    await getFromKube(machine, KUBECONFIG, '/readyz', signal);
    seen.controlPlaneReady = true;
    const node = await onlyNode(machine, KUBECONFIG, signal);
    if (!node) return { ...seen, message: 'the node has not registered' };
    const { ready, why, kubeletVersion, unschedulable } = nodeState(node);
    // The kubelet calls the node not ready for as long as the CNI has no configuration.
    const cniReady = ready || !/\b(cni|network plugin)\b/i.test(why);
    const { bootID } = node.status?.nodeInfo ?? {};
    return {
      ...seen,
      kubeletVersion,
      ...(bootID && { bootID }),
      nodeReady: ready,
      cniReady,
      unschedulable,
      message: ready ? '' : `the node is not Ready: ${why}`,
    };
  } catch (error) {
    return { ...seen, message: `the API server is not ready: ${text(error)}` };
  }
}
