import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { MachineView } from '../../machine/machine.ts';
import { nodeState, onlyNode } from '../common/node-state.ts';
import type { Observation } from '../distribution.ts';
import { apiVersion, controlPlaneProblems } from './init.ts';
import { ADMIN_CONF } from './paths.ts';

const DOWN: Observation = {
  installed: false,
  nodeReady: false,
  controlPlaneReady: false,
  cniReady: false,
  unschedulable: false,
  message: '',
};

/** Three small questions to the API server over one kept connection; no process is started. Never rejects for what is wrong with the cluster. */
export async function observeKubeadm(machine: MachineView, _spec: ClusterSpec, signal: AbortSignal): Promise<Observation> {
  if (!(await machine.stat(ADMIN_CONF))) return { ...DOWN, message: `there is no ${ADMIN_CONF}` };
  try {
    const version = await apiVersion(machine, signal);
    const node = await onlyNode(machine, ADMIN_CONF, signal);
    const problems = await controlPlaneProblems(machine, signal);
    const state = node && nodeState(node);
    const network = node?.status?.conditions?.find(({ type }) => type === 'Ready')?.message ?? '';
    // The kubelet says in its Ready condition that the runtime's network is not there.
    const cniReady =
      state?.ready === true || (state !== undefined && !/network (plugin )?(is )?not (ready|initialized)|cni/i.test(network));
    const message = [...(state ? [state.why] : ['the node has not registered']), ...problems].filter(Boolean).join('; ');
    return {
      installed: true,
      version,
      ...(state?.kubeletVersion && { kubeletVersion: state.kubeletVersion }),
      ...(node?.status?.nodeInfo?.bootID && { bootID: node.status.nodeInfo.bootID }),
      nodeReady: state?.ready === true,
      controlPlaneReady: problems.length === 0,
      cniReady,
      unschedulable: state?.unschedulable === true,
      message,
    };
  } catch (error) {
    if (signal.aborted) throw error;
    return {
      ...DOWN,
      installed: true,
      message: `the API server does not answer: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
}
