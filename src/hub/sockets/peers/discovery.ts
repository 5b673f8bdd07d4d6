import type { KubeClient } from '../../../kube/client.ts';
import { type Raw, watchCache } from '../../../kube/watch-cache.ts';

/** Where a replica may be. `key` stays the same for as long as it is the same pod at the same address. */
export type PeerAddress = { key: string; address: string; port: number; ready: boolean };

/** The addresses of all replicas, this one's own among them. */
export type PeerDiscovery = {
  addresses(): PeerAddress[];
  onChange(listener: () => void, signal: AbortSignal): void;
  /** Why the addresses are not known; undefined once they are. */
  problem(): string | undefined;
};

type EndpointSlice = Raw & {
  addressType?: string;
  endpoints?: { addresses: string[]; conditions?: { ready?: boolean | null }; targetRef?: { uid?: string } }[] | null;
  ports?: { name?: string | null; port?: number | null; protocol?: string | null }[] | null;
};

/** Name of the port of the Service on which replicas talk to each other. */
const PORT_NAME = 'peers';

/** The peers of one slice, also those that are not ready: a replica that drains still holds tunnels. */
export function peersOf({ addressType, endpoints, ports }: EndpointSlice): PeerAddress[] {
  const port = ports?.find(({ name, protocol }) => name === PORT_NAME && (protocol ?? 'TCP') === 'TCP')?.port;
  if (!port || addressType === 'FQDN') return [];
  return (endpoints ?? []).flatMap(({ addresses, conditions, targetRef }) => {
    // The addresses of one endpoint are interchangeable, says the API.
    const [address] = addresses;
    return address ? [{ key: targetRef?.uid ?? `${address} ${port}`, address, port, ready: conditions?.ready !== false }] : [];
  });
}

/** Reads the EndpointSlices of the hub's Service and watches them. With two address families a pod has two slices; one address of a pod is enough. */
export function peerDiscovery(options: {
  client: KubeClient;
  namespace: string;
  service: string;
  signal: AbortSignal;
  onError: (error: unknown) => void;
}): PeerDiscovery {
  const { client, namespace, service, signal, onError } = options;
  const slices = watchCache<EndpointSlice, PeerAddress[]>({
    client,
    path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
    labelSelector: `kubernetes.io/service-name=${service}`,
    transform: peersOf,
    signal,
    onError,
  });
  return {
    addresses() {
      const byKey = new Map<string, PeerAddress>();
      for (const peer of [...slices.values()].flat().sort((a, b) => (a.address < b.address ? -1 : 1))) {
        if (!byKey.has(peer.key)) byKey.set(peer.key, peer);
      }
      // A pod that came back with another address is another peer.
      return [...byKey.values()].map((peer) => ({ ...peer, key: `${peer.key} ${peer.address} ${peer.port}` }));
    },
    onChange: (listener, until) => slices.onChange(() => listener(), until),
    problem: () => (slices.synced() ? undefined : (slices.failure() ?? "the hub's EndpointSlices have not been read yet")),
  };
}
