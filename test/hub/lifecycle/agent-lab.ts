import { randomUUID } from 'node:crypto';
import type { ServerHttp2Stream } from 'node:http2';
import { request } from 'node:https';
import { Registry } from 'prom-client';
import { upstreamHandler } from '../../../src/agent/upstream/handler.ts';
import { CLUSTERS_API, CLUSTERS_VERSION, registrationName } from '../../../src/kube/clusternet.ts';
import { type Caller, decodeCaller } from '../../../src/tunnel/caller.ts';
import { ATTACH_HEADERS, attachPath, UPGRADE_TOKEN } from '../../../src/tunnel/protocol.ts';
import { type AgentTunnel, acceptTunnel, type StreamHandler } from '../../../src/tunnel/session.ts';
import type { RawHeaders } from '../../../src/tunnel/upstream.ts';
import { type Ask, type RunningHub, runningHub } from '../../support/running-hub.ts';
import { waitUntil } from '../../support/wait-until.ts';

/** A request as it came to the agent's own API. */
export type AtAgent = {
  method: string;
  path: string;
  headers: Record<string, string>;
  caller: Caller;
  body: string;
  stream: ServerHttp2Stream;
};
export type AgentSays = (asked: AtAgent) => { code?: number; body: string | object } | 'hang' | 'stream';

/** An agent's own API behind the agent's real handler of streams. What it answers is the test's affair. */
export function agentEnd(onError: (error: unknown) => void) {
  const asked: AtAgent[] = [];
  let says: AgentSays = () => ({ body: CLUSTER });
  const handle = async (stream: ServerHttp2Stream, headers: Record<string, unknown>, raw: RawHeaders) => {
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    const text = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
    const one: AtAgent = {
      method: String(headers[':method']),
      path: String(headers[':path']),
      headers: text,
      caller: decodeCaller(raw),
      body: Buffer.concat(chunks).toString('utf8'),
      stream,
    };
    asked.push(one);
    const answer = says(one);
    if (answer === 'hang') return;
    if (answer === 'stream') {
      stream.respond({ ':status': 200, 'content-type': 'text/plain; charset=utf-8' });
      return;
    }
    const { code = 200, body } = answer;
    stream.respond({ ':status': code, 'content-type': typeof body === 'string' ? 'text/plain' : 'application/json' });
    stream.end(typeof body === 'string' ? body : `${JSON.stringify(body)}\n`);
  };
  const serve: StreamHandler = upstreamHandler({
    child: () => undefined,
    allowTargets: [],
    targetCA: () => undefined,
    allowIdentities: [],
    agentAPI: (stream, headers, raw) => {
      handle(stream, headers, raw).catch((error: unknown) => {
        // A caller that went away cuts its stream.
        if (!stream.aborted && !stream.destroyed) onError(error);
      });
    },
    registry: new Registry(),
    onError,
  });
  return {
    serve,
    asked,
    says(answer: AgentSays) {
      says = answer;
    },
    reset() {
      asked.length = 0;
      says = () => ({ body: CLUSTER });
    },
  };
}

export const status = {
  phase: 'Provisioned',
  kubernetesVersion: 'v1.36.3',
  conditions: [{ type: 'ClusterReady', status: 'True' }],
  operation: { id: 'o1', type: 'Install', phase: 'Succeeded', steps: [{ name: 'kubeadm-init', state: 'Done' }] },
};
/** What an agent says of its cluster. */
export const CLUSTER = {
  apiVersion: 'v1alpha1',
  kind: 'Cluster',
  metadata: { name: 'machine-7' },
  spec: { clusterType: 'kubeadm', version: 'v1.36.3' },
  status,
};

export type AgentLab = {
  hub: RunningHub;
  id: string;
  end: ReturnType<typeof agentEnd>;
  errors: unknown[];
  attach(): Promise<AgentTunnel>;
  closeTunnels(): void;
  /** Asks for a subresource of the cluster `edge`. */
  ask(subresource: string, more?: Partial<Ask>): ReturnType<RunningHub['ask']>;
  close(): Promise<void>;
};

export const LIFECYCLE_API = '/apis/infraops.michael.io/v1/clusters/edge';

/** Puts a cluster that is let in, and returns its id. */
export function putCluster(hub: RunningHub, name: string, id: string = randomUUID()): string {
  hub.api.put(`${CLUSTERS_API}/clusterregistrationrequests`, {
    apiVersion: CLUSTERS_VERSION,
    kind: 'ClusterRegistrationRequest',
    metadata: { name: registrationName(id) },
    spec: { clusterId: id, clusterName: name },
    status: { result: 'Approved', dedicatedNamespace: `ns-${name}`, managedClusterName: name },
  });
  hub.api.put(`${CLUSTERS_API}/namespaces/ns-${name}/managedclusters`, {
    apiVersion: CLUSTERS_VERSION,
    kind: 'ManagedCluster',
    metadata: { name, namespace: `ns-${name}` },
    spec: { clusterId: id },
  });
  return id;
}

/** A whole hub in this process, with the cluster `edge` whose agent has a real tunnel to it. */
export async function agentLab(args: string[] = []): Promise<AgentLab> {
  const errors: unknown[] = [];
  const end = agentEnd((error) => errors.push(error));
  const hub = await runningHub({
    args: ['--peer-port=0', ...args],
    tokens: { 'agent-token': 'agent' },
    async prepare(api) {
      // Another replica leads, and leaves the registration as it is.
      const spec = { holderIdentity: 'other', leaseDurationSeconds: 3_600, renewTime: new Date().toISOString().replace('Z', '000Z') };
      api.put('/apis/coordination.k8s.io/v1/namespaces/fairlead-system/leases', { metadata: { name: 'fairlead-hub' }, spec });
      return [];
    },
  });
  hub.allow((user) => user === 'admin' || user === 'agent');
  const id = putCluster(hub, 'edge');
  const tunnels: AgentTunnel[] = [];
  const lab: AgentLab = {
    hub,
    id,
    end,
    errors,
    async attach() {
      const tunnel = await attachTunnel(hub, id, end.serve, (error) => errors.push(error));
      tunnels.push(tunnel);
      return tunnel;
    },
    closeTunnels() {
      for (const tunnel of tunnels.splice(0)) tunnel.leave();
    },
    ask: (subresource, more = {}) => hub.ask({ path: `${LIFECYCLE_API}/${subresource}`, user: 'admin', ...more }),
    async close() {
      lab.closeTunnels();
      await hub.close();
      if (errors.length > 0) throw new AggregateError(errors, 'errors that nobody foresaw');
    },
  };
  await waitUntil(async () => (await hub.ask({ path: LIFECYCLE_API, user: 'admin' })).code === 200, 'the cluster');
  await lab.attach();
  return lab;
}

function attachTunnel(hub: RunningHub, id: string, serve: StreamHandler, onError: (error: unknown) => void): Promise<AgentTunnel> {
  return new Promise((resolve, reject) => {
    const sent = request({
      host: '127.0.0.1',
      port: hub.port,
      ca: hub.ca,
      servername: 'localhost',
      agent: false,
      method: 'POST',
      path: attachPath(id),
      headers: {
        authorization: 'Bearer agent-token',
        connection: 'Upgrade',
        upgrade: UPGRADE_TOKEN,
        [ATTACH_HEADERS.instance]: 'one',
        [ATTACH_HEADERS.version]: '1.0.0',
        [ATTACH_HEADERS.have]: '',
      },
    });
    sent.on('upgrade', (_response, socket, head) => resolve(acceptTunnel(socket, head, { serve, onError })));
    sent.on('response', (response) => {
      response.resume();
      reject(new Error(`attach was answered ${response.statusCode}`));
    });
    sent.on('error', reject);
    sent.end();
  });
}
