import { isIPv6 } from 'node:net';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { Facts } from '../../machine/machine.ts';

/** The server, where it is nobody but the machine that reads the file. */
const OWN_SERVER = /^(\s*(?:- +)?server: *["']?https:\/\/)(?:127\.0\.0\.1|0\.0\.0\.0|localhost|\[::1?\])(?=[:/"'\s]|$)/m;

/** The node's address, as k3s takes it: the first of its setting node-ip, or that of the default route. k3s names it in its certificates. */
function nodeAddress({ extraArgs }: ClusterSpec, { addresses }: Facts): string | undefined {
  return extraArgs?.['server.node-ip']?.split(',')[0]?.trim() || addresses[0];
}

/**
 * k3s.yaml for others than the machine: k3s writes its loopback address there (https://docs.k3s.io/cluster-access), which becomes the node's. As it is when k3s listens on another
 * address only (bind-address), or when none is known.
 */
export function k3sKubeconfig(text: string, spec: ClusterSpec, facts: Facts): string {
  const address = nodeAddress(spec, facts);
  if (!address) return text;
  const host = isIPv6(address) ? `[${address}]` : address;
  return text.replace(OWN_SERVER, (_, before: string) => before + host);
}
