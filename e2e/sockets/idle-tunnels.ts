import { randomUUID } from 'node:crypto';
import { parentConnection } from '../../src/agent/parent/parent.ts';
import { dial } from '../../src/agent/tunnel/dial.ts';
import { CLUSTERS_API, CLUSTERS_VERSION, type ClusterRegistrationRequest, registrationName } from '../../src/kube/clusternet.ts';
import { sealingKeys, unseal } from '../../src/tunnel/seal.ts';
import { type AgentTunnel, acceptTunnel } from '../../src/tunnel/session.ts';
import { eachOf } from '../lab/each.ts';
import type { Lab } from '../lab/lab.ts';
import { pause, waitFor } from '../lab/wait.ts';

export type Registered = { id: string; token: string };

/** Registers clusters that do not exist, approved by an administrator, and opens the credentials that the hub makes for them. */
export async function registerEmpty(lab: Lab, count: number): Promise<Registered[]> {
  const keys = sealingKeys();
  const path = `${CLUSTERS_API}/clusterregistrationrequests`;
  const ids = Array.from({ length: count }, (): string => randomUUID());
  await eachOf(ids, 8, async (clusterId) => {
    const spec = {
      clusterId,
      clusterName: `idle-${clusterId.slice(0, 13)}`,
      clusterType: 'Idle',
      sealingKey: keys.publicKey,
      decision: 'Approved' as const,
    };
    const body = {
      apiVersion: CLUSTERS_VERSION,
      kind: 'ClusterRegistrationRequest',
      metadata: { name: registrationName(clusterId) },
      spec,
    };
    await lab.api.json('POST', path, { body });
  });
  const approved = async () => {
    const { items } = await lab.api.json<{ items: ClusterRegistrationRequest[] }>('GET', path);
    const own = items.filter(({ spec, status }) => ids.includes(spec.clusterId) && status?.result === 'Approved' && status.sealedToken);
    if (own.length < count) throw new Error(`${own.length} of ${count}`);
    return own.map(({ spec: { clusterId }, status }) => ({
      id: clusterId,
      token: unseal(keys, status?.sealedToken ?? '', clusterId),
    }));
  };
  return await waitFor(approved, { what: `${count} clusters to be approved`, timeout: 120_000, interval: 200 });
}

/** Opens one tunnel for each, through kube-apiserver as agents do, with no cluster behind it. All end with the signal. Resolves when all are open. */
export async function openTunnels(lab: Lab, agents: readonly Registered[], signal: AbortSignal): Promise<AgentTunnel[]> {
  const parent = parentConnection({ url: lab.apiServerURL, caFile: '', ca: lab.ca, serverName: '' }, () => undefined);
  const tunnels: AgentTunnel[] = [];
  await eachOf(agents, 8, async ({ id, token }) => {
    for (;;) {
      const dialled = await dial({ parent, clusterId: id, token, instance: randomUUID(), version: 'idle', have: [], signal });
      if (dialled.kind === 'attached') {
        const { socket, head } = dialled;
        signal.addEventListener('abort', () => socket.destroy(), { once: true });
        tunnels.push(acceptTunnel(socket, head, { serve: (stream) => stream.close(), onError: () => undefined }));
        return;
      }
      // The hub lets so many in for each second; a credential that was just made is not known to every replica yet.
      if (dialled.kind === 'answered' && ![401, 404, 429, 503].includes(dialled.code))
        throw new Error(`${dialled.code} ${dialled.message}`);
      await pause(200 + dialled.retryAfterMs, signal);
    }
  });
  return tunnels;
}

/** Seats of priority and fairness that are taken now, without those of exempt requests. */
export async function seatsTaken(lab: Lab): Promise<number> {
  const { text } = await lab.api.request('GET', '/metrics');
  const found = [...text.matchAll(/^apiserver_flowcontrol_current_executing_seats\{([^}]*)\} (\S+)$/gm)];
  if (found.length === 0) throw new Error('kube-apiserver has no metric apiserver_flowcontrol_current_executing_seats');
  return found.filter(([, labels]) => !labels?.includes('priority_level="exempt"')).reduce((sum, [, , value]) => sum + Number(value), 0);
}
