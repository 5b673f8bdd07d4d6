import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import { type Cidr, firstBlock, parseCidr } from '../common/cidr.ts';

/** The networks of a text like `10.42.0.0/16,fd42::/56`. */
export const networks = (text: string | undefined): Cidr[] =>
  (text ?? '').split(',').flatMap((part) => {
    const cidr = parseCidr(part.trim());
    return cidr ? [cidr] : [];
  });

export const podNetworks = (spec: ClusterSpec) => networks(spec.networking?.podSubnet);
export const serviceNetworks = (spec: ClusterSpec) => networks(spec.networking?.svcSubnet);
export const isDualStack = (spec: ClusterSpec) => podNetworks(spec).length > 1;

/** Length of the prefix of a node's own share: kube-controller-manager's default, or everything where the pods' network is smaller. It hands out at most 16 bits' worth. */
export const nodeMask = (cidr: Cidr): number => {
  const usual = cidr.family === 4 ? 24 : 64;
  return cidr.prefix >= usual ? cidr.prefix : Math.min(usual, cidr.prefix + 16);
};

/** The share that the only node gets: the first. */
export const nodeNetwork = (cidr: Cidr): string => firstBlock(cidr, nodeMask(cidr));
