import type { ClusterType } from '../../../kube/lifecycle.ts';
import type { Distribution } from './distribution.ts';
import { k3sDistribution } from './k3s/k3s.ts';
import type { K3sOptions } from './k3s/source.ts';
import { kubeadm } from './kubeadm/kubeadm.ts';

/** Every distribution that the agent can make; asked for by type, kubeadm where none is named, undefined for one that is not there. A new one is one more entry. */
export function distributionsWith(settings: { k3s: K3sOptions }): (type: ClusterType | undefined) => Distribution | undefined {
  const all: readonly Distribution[] = [kubeadm, k3sDistribution(settings.k3s)];
  return (type) => all.find((distribution) => distribution.type === (type ?? 'kubeadm'));
}
