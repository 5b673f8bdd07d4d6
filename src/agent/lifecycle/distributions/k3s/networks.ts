import type { ClusterSpec } from '../../../../kube/lifecycle.ts';

/** How many families of addresses pods have: 2 for dual stack. */
export const networkFamilies = ({ networking }: ClusterSpec): number => (networking?.podSubnet ?? '').split(',').filter(Boolean).length;
