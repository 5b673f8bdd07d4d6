import type { ClusterType } from '../../../kube/lifecycle.ts';
import type { Distribution } from './distribution.ts';
import { k3sDistribution } from './k3s/k3s.ts';
import { kubeadm } from './kubeadm/kubeadm.ts';

/** Every distribution that the agent can make. A new one is one more entry. */
export const distributions: readonly Distribution[] = [kubeadm, k3sDistribution()];

/** The distribution of a type, kubeadm where none is named; undefined for one that is not there. */
export function distributionOf(type: ClusterType | undefined): Distribution | undefined {
  return distributions.find((distribution) => distribution.type === (type ?? 'kubeadm'));
}
