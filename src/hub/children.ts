import type { IncomingMessage } from 'node:http';
import type { Registry } from 'prom-client';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/events.ts';
import type { KubeAccess } from '../kube/plain-config.ts';
import type { StatusError } from '../kube/status.ts';
import { type Raw, watchCache } from '../kube/watch-cache.ts';
import { childTrust } from './clusters/child-trust.ts';
import { type Clusters, clusterRoom } from './clusters/cluster-room.ts';
import { watchParentCA } from './clusters/parent-ca.ts';
import { lifecycleSubresources } from './lifecycle/subresources.ts';
import type { Options } from './options.ts';
import type { TunnelEvent } from './sockets/attach.ts';
import { allConnections } from './sockets/connections.ts';
import { findUpstream } from './sockets/find-upstream.ts';
import type { StillAllowed } from './sockets/gate.ts';
import { localTunnels } from './sockets/peers/local-tunnels.ts';
import { hubPeers } from './sockets/peers/peers.ts';
import { type SocketRoom, socketRoom } from './sockets/socket-room.ts';
import { targetFailure } from './sockets/target-failure.ts';
import { tunnelDirectory } from './sockets/tunnel-directory.ts';

export type ChildrenOptions = {
  options: Options;
  client: KubeClient;
  config: KubeAccess;
  events: EventRecorder;
  registry: Registry;
  stillAllowed: StillAllowed;
  toStatus: (error: unknown) => StatusError;
  /** What an upgrade was answered with, for the audit log. */
  upgraded: (request: IncomingMessage, code: number) => void;
  /** Aborted when requests without an end have to end. */
  closing: AbortSignal;
  signal: AbortSignal;
  onError: (error: unknown) => void;
  onNews: (text: string) => void;
  onTunnel?: (event: TunnelEvent) => void;
};

/** Everything about child clusters: their objects and the way to them. */
export type Children = Omit<Clusters, 'sockets'> & {
  /** The request path. */
  sockets: SocketRoom;
  /** Moves tunnels away and lets requests end, those of other replicas too. Until `served` has resolved, requests that still come here are handed on to them. */
  close(graceMs: number, served: Promise<void>): Promise<void>;
};

/** No other replicas: `--peer-port=0`. */
const ALONE = {
  find: () => undefined,
  connection: () => undefined,
  lastEnd: () => undefined,
  replicas: () => 1,
  check: () => undefined,
  close: async () => undefined,
};

export async function childClusters(given: ChildrenOptions): Promise<Children> {
  const { options, client, signal, onError } = given;
  const settings = options.clusters;
  const { namespace } = options.nodes;
  const directory = tunnelDirectory();
  const peers =
    settings.peerPort === 0
      ? ALONE
      : await hubPeers({
          client,
          namespace,
          service: options.serviceName,
          identity: options.identity,
          secret: settings.peerSecret,
          bindAddress: options.bindAddress,
          port: settings.peerPort,
          tunnels: localTunnels(directory),
          registry: given.registry,
          signal,
          onError,
          onNews: given.onNews,
        });
  const connections = allConnections(directory, peers);
  const clusters = clusterRoom({
    client,
    connections,
    settings: {
      approval: { groups: settings.approveGroups },
      tokenSeconds: settings.tokenSeconds,
      unknownAfterMs: settings.unknownAfterMs,
      childTrust: childTrust({ client, namespace, signal, onError }),
      parentCA: watchParentCA({ client, namespace, config: given.config, signal, onError }),
      ...(settings.directURL && { directURL: settings.directURL, directCA: servingCA(given) }),
    },
    registry: given.registry,
    events: given.events,
    subresources: (find) =>
      lifecycleSubresources({
        // The name under which it was asked for, which need not be that of the ManagedCluster.
        find: (name) => ({ ...find(name), name }),
        upstream: ({ id, name }) => findUpstream({ id, name }, directory, peers),
        protocol: ({ id }) => connections.get(id)?.protocol,
        failure: targetFailure,
      }),
    signal,
    onError,
  });
  const sockets = socketRoom({
    directory,
    clusters: clusters.sockets,
    peers,
    stillAllowed: given.stillAllowed,
    limits: settings.limits,
    attach: { identity: options.identity, perSecond: settings.attachesPerSecond },
    registry: given.registry,
    toStatus: given.toStatus,
    ...(given.onTunnel && { onTunnel: given.onTunnel }),
    upgraded: given.upgraded,
    closing: given.closing,
    signal,
    onError,
  });
  return {
    resources: clusters.resources,
    lead: clusters.lead,
    checks: { ...clusters.checks, peers: peers.check },
    sockets,
    async close(graceMs, served) {
      const until = performance.now() + graceMs;
      await sockets.drain(graceMs, served);
      await served;
      await peers.close(Math.max(until - performance.now(), 0));
    },
  };
}

/** The CA that verifies the hub's serving certificate, as it stands in its APIService. */
function servingCA({ client, options, signal, onError }: ChildrenOptions): () => string | undefined {
  const name = options.apiServices[0] ?? '';
  const services = watchCache<Raw & { spec: { caBundle?: string } }, string>({
    client,
    path: '/apis/apiregistration.k8s.io/v1/apiservices',
    fieldSelector: `metadata.name=${name}`,
    transform: ({ spec }) => Buffer.from(spec.caBundle ?? '', 'base64').toString('utf8'),
    signal,
    onError,
  });
  return () => services.get(name) || undefined;
}
