import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { eachOf } from '../../e2e/lab/each.ts';
import type { Lab } from '../../e2e/lab/lab.ts';
import { waitFor } from '../../e2e/lab/wait.ts';
import type { ParentOptions } from '../../src/agent/parent/parent.ts';
import {
  CLUSTER_ID_LABEL,
  CLUSTER_NAME_LABEL,
  CLUSTERS_API,
  CLUSTERS_VERSION,
  type ClusterRegistrationRequest,
  registrationName,
} from '../../src/kube/clusternet.ts';
import { sealingKeys, unseal } from '../../src/tunnel/seal.ts';

export type AgentCredential = { id: string; token: string };
export type AgentsState = { connected: number; wanted: number; attempts: number; refusals: Record<string, number> };
export type AgentsOrder = { id: number } & (
  | { kind: 'open'; credentials: readonly AgentCredential[]; parent: ParentOptions }
  | { kind: 'drop' }
  | { kind: 'close' }
  | { kind: 'look' }
);

/** Many agents in one process, each with a credential and a tunnel of its own, and no cluster behind them. */
export type IdleAgents = {
  pid: number;
  /** Adds agents and resolves when they had the time to connect. */
  open(credentials: readonly AgentCredential[], parent: ParentOptions): Promise<AgentsState>;
  /** Cuts all tunnels at once; the agents come back by themselves, as agents do. */
  drop(): Promise<AgentsState>;
  /** Ends all agents. */
  close(): Promise<AgentsState>;
  look(): Promise<AgentsState>;
  /** Resolves when all that are wanted are connected. */
  waitForAll(timeout: number): Promise<AgentsState>;
  stop(): void;
};

/** An order without its number. */
type Unnumbered = AgentsOrder extends infer O ? (O extends AgentsOrder ? Omit<O, 'id'> : never) : never;

export function startIdleAgents(): IdleAgents {
  const child = fork(fileURLToPath(new URL('idle-agents-process.ts', import.meta.url)), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const { pid } = child;
  if (pid === undefined) throw new Error('the process of the idle agents did not start');
  const waiting = new Map<number, { resolve: (state: AgentsState) => void; reject: (error: Error) => void }>();
  let next = 0;
  child.on('message', ({ id, state }: { id: number; state: AgentsState }) => {
    waiting.get(id)?.resolve(state);
    waiting.delete(id);
  });
  child.on('exit', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`the process of the idle agents ended with ${code}`));
    waiting.clear();
  });
  const order = (what: Unnumbered): Promise<AgentsState> =>
    new Promise((resolve, reject) => {
      const id = next++;
      waiting.set(id, { resolve, reject });
      child.send({ id, ...what });
    });
  const look = () => order({ kind: 'look' });
  return {
    pid,
    open: (credentials, parent) => order({ kind: 'open', credentials, parent }),
    drop: () => order({ kind: 'drop' }),
    close: () => order({ kind: 'close' }),
    look,
    waitForAll: (timeout) =>
      waitFor(
        async () => {
          const state = await look();
          if (state.connected < state.wanted) throw new Error(JSON.stringify(state));
          return state;
        },
        { what: 'all idle agents to be connected', timeout, interval: 50 },
      ),
    stop: () => {
      child.kill('SIGKILL');
    },
  };
}

/** Registers clusters that do not exist, as an administrator who approves them, and opens the credentials that the hub makes for them. */
export async function registerClusters(lab: Lab, count: number, timeout: number): Promise<AgentCredential[]> {
  const keys = sealingKeys();
  const path = `${CLUSTERS_API}/clusterregistrationrequests`;
  const ids = Array.from({ length: count }, () => randomUUID());
  await eachOf(ids, 16, async (clusterId) => {
    const clusterName = `idle-${clusterId.slice(0, 13)}`;
    const body: Omit<ClusterRegistrationRequest, 'metadata'> & { metadata: object } = {
      apiVersion: CLUSTERS_VERSION,
      kind: 'ClusterRegistrationRequest',
      metadata: { name: registrationName(clusterId), labels: { [CLUSTER_ID_LABEL]: clusterId, [CLUSTER_NAME_LABEL]: clusterName } },
      spec: { clusterId, clusterName, clusterType: 'Idle', syncMode: 'Pull', sealingKey: keys.publicKey, decision: 'Approved' },
    };
    await lab.api.json('POST', path, { body });
  });
  const approved = async () => {
    const { items } = await lab.api.json<{ items: ClusterRegistrationRequest[] }>('GET', path);
    const sealed = items.filter(({ spec, status }) => spec.clusterType === 'Idle' && status?.result === 'Approved' && status.sealedToken);
    if (sealed.length < count) throw new Error(`${sealed.length} of ${count}`);
    return sealed.map(({ spec: { clusterId }, status }) => ({
      id: clusterId,
      token: unseal(keys, status?.sealedToken ?? '', clusterId),
    }));
  };
  return await waitFor(approved, { what: `${count} clusters to be approved`, timeout, interval: 500 });
}
