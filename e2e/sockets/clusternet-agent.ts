import { once } from 'node:events';
import { WebSocket } from 'ws';
import { CLUSTER_ID_LABEL, CLUSTERS_API, type ManagedCluster, registrationName } from '../../src/kube/clusternet.ts';
import { type PeerAgent, peerAgent } from '../../test/tunnel/remotedialer/peer.ts';
import { bootstrapToken } from '../lab/agent.ts';
import { createApiClient, patch } from '../lab/api-client.ts';
import { hubNamespace } from '../lab/hub-objects.ts';
import type { Lab } from '../lab/lab.ts';
import { waitFor } from '../lab/wait.ts';

/** A cluster whose agent is clusternet's: registered as that one does it, without a key for sealing and without a word of its groups. */
export type ClusternetCluster = {
  id: string;
  /** Readable in the status of the request. */
  token: string;
  /** Opens the websocket at sockets/<id>, through the parent's kube-apiserver. */
  connect(options: { knowsPause: boolean; signal: AbortSignal }): Promise<PeerAgent>;
};

const SOCKETS = '/apis/proxies.clusternet.io/v1alpha1/sockets';

/** Resolves with the websocket, or rejects with the status of the answer in the message. */
export async function openSocket(parent: Lab, id: string, token: string): Promise<WebSocket> {
  const ws = new WebSocket(`${parent.apiServerURL.replace('https:', 'wss:')}${SOCKETS}/${id}`, {
    ca: parent.ca,
    perMessageDeflate: false,
    headers: { authorization: `Bearer ${token}` },
  });
  await once(ws, 'open');
  return ws;
}

/** Registers `child` in `parent` under the name and id given; the request has to be let in by the parent's policy. */
export async function registerClusternet(parent: Lab, child: Lab, { id, name }: { id: string; name: string }): Promise<ClusternetCluster> {
  const path = `${CLUSTERS_API}/clusterregistrationrequests/${registrationName(id)}`;
  const stranger = createApiClient({ server: parent.apiServerURL, ca: parent.ca, credentials: { token: await bootstrapToken(parent) } });
  parent.defer(stranger.close);
  await stranger.json('POST', `${CLUSTERS_API}/clusterregistrationrequests`, {
    body: {
      apiVersion: 'clusters.clusternet.io/v1beta1',
      kind: 'ClusterRegistrationRequest',
      metadata: { name: registrationName(id), labels: { 'clusters.clusternet.io/registered-by': 'clusternet-agent' } },
      spec: { clusterId: id, clusterName: name, clusterType: 'EdgeCluster', syncMode: 'Dual' },
    },
  });
  type Request = {
    status?: { result?: string; token?: string; dedicatedNamespace?: string; managedClusterName?: string; errorMessage?: string };
  };
  const status = await waitFor(
    async () => {
      const { status: now } = await stranger.json<Request>('GET', path);
      if (now?.result !== 'Approved' || !now.token) throw new Error(JSON.stringify(now ?? {}));
      return now;
    },
    { what: `${name} to be let in`, timeout: 60_000 },
  );
  const token = Buffer.from(status.token ?? '', 'base64').toString();
  const agent = createApiClient({ server: parent.apiServerURL, ca: parent.ca, credentials: { token } });
  parent.defer(agent.close);
  const managed = `${CLUSTERS_API}/namespaces/${status.dedicatedNamespace}/managedclusters/${status.managedClusterName}`;
  // clusternet verifies nothing; here an administrator says by which CA the child is known.
  await parent.api.json('POST', `/api/v1/namespaces/${hubNamespace}/configmaps`, {
    body: { metadata: { name: `child-${id}`, labels: { [CLUSTER_ID_LABEL]: id } }, data: { 'ca.crt': child.ca } },
  });
  const heartbeat: NonNullable<ManagedCluster['status']> = {
    lastObservedTime: new Date().toISOString(),
    apiserverURL: child.apiServerURL,
    useSocket: true,
    healthz: true,
    livez: true,
    readyz: true,
    heartbeatFrequencySeconds: 180,
  };
  await waitFor(
    async () => {
      const { status: code, text } = await agent.request('PATCH', `${managed}/status`, {
        body: { status: heartbeat },
        contentType: patch.merge,
      });
      if (code !== 200) throw new Error(`${code} ${text}`);
      return true;
    },
    { what: `${name} to write its status` },
  );
  return {
    id,
    token,
    async connect({ knowsPause, signal }) {
      return peerAgent(await openSocket(parent, id, token), { knowsPause, signal });
    },
  };
}
