import type { Registry } from 'prom-client';
import type { KubeClient } from '../../kube/client.ts';
import type { EventRecorder } from '../../kube/events.ts';
import type { Leadership } from '../../kube/leader-election.ts';
import type { ApiResource } from '../http/resource.ts';
import type { Cloud } from './clouds/cloud.ts';
import { ProviderIDError } from './clouds/provider-id.ts';
import type { ResolveInstance } from './clouds/resolve.ts';
import { foreignLocks } from './foreign-locks.ts';
import { alreadyRunning } from './guards/already-running.ts';
import { controlPlaneNodes } from './guards/control-plane-nodes.ts';
import { controlPlaneQuorum } from './guards/control-plane-quorum.ts';
import { cooldown } from './guards/cooldown.ts';
import { disruptionBudgets } from './guards/disruption-budgets.ts';
import { exhaustedBudgets } from './guards/exhausted-budgets.ts';
import type { Guard } from './guards/guard.ts';
import { maxNodesDown } from './guards/max-nodes-down.ts';
import { type HubNodes, ownNode } from './guards/own-node.ts';
import { uniqueMachine } from './guards/unique-machine.ts';
import { veto } from './guards/veto.ts';
import { measuredCloud, nodeMetrics } from './metrics.ts';
import { nodeDirectory } from './node-directory.ts';
import type { MachineOf } from './node-facts.ts';
import { LEDGER_NAME, operationLedger } from './operations/ledger.ts';
import { operationsCache } from './operations/operations-cache.ts';
import { runOperations } from './operations/runner.ts';
import { isFinal, operationStore } from './operations/store.ts';
import { turns } from './operations/turns.ts';
import { nodeResources } from './resources.ts';
import type { NodeRoom } from './room.ts';
import type { NodeSettings } from './settings.ts';

export type NodeRoomOptions = {
  client: KubeClient;
  /** Which instance a node is, and the client of its cloud. Throws ProviderIDError. */
  resolve: ResolveInstance;
  settings: NodeSettings;
  registry: Registry;
  events: EventRecorder;
  hubNodes: HubNodes;
  /** Called when something is over that took memory: a reading of everything, an operation. */
  relieve?: () => void;
  /** Unique name of this replica. */
  identity: string;
  signal: AbortSignal;
  onError: (error: unknown) => void;
};

/** Calls of clouds with an effect that are under way at the same time. */
const CLOUD_CALLS = 16;

/** Everything about nodes: the resources to serve, the work of the leader, and checks for readiness. */
export type Nodes = {
  resources: ApiResource[];
  lead: (leadership: Leadership) => Promise<void>;
  /** Named checks; undefined means ready. */
  checks: Record<string, () => string | undefined>;
};

export function nodeRoom(options: NodeRoomOptions): Nodes {
  const { client, settings, signal, onError, resolve } = options;
  const metrics = nodeMetrics(options.registry);
  const measured = new WeakMap<Cloud, Cloud>();

  const connect: NodeRoom['connect'] = (node) => {
    const { ref, cloud } = resolve(node);
    const known = measured.get(cloud) ?? measuredCloud(cloud, metrics);
    measured.set(cloud, known);
    return { ref, cloud: known };
  };
  const machineOf: MachineOf = (node) => {
    try {
      const { ref } = resolve(node);
      const { cloud, account, region, zone, instanceID } = ref;
      return { machine: { cloud, region, instanceID, ...(account !== undefined && { account }), ...(zone && { zone }) } };
    } catch (error) {
      if (!(error instanceof ProviderIDError)) throw error;
      return { unsupported: error.message };
    }
  };

  const directory = nodeDirectory({ client, machineOf, signal, onError });
  const operations = operationsCache(client, settings.namespace, signal, onError);
  const ledger = operationLedger(client, settings.namespace);
  operations.onChange(({ name, object }) => {
    if (name !== undefined && name !== LEDGER_NAME) return;
    const kept = object ?? operations.get(LEDGER_NAME);
    ledger.observe(kept && 'ledger' in kept ? kept.ledger : undefined);
  }, signal);
  const { relieve } = options;
  if (relieve) {
    directory.cache.onChange(({ name }) => {
      if (name === undefined) relieve();
    }, signal);
    operations.onChange(({ name, object }) => {
      if (name === undefined || (object && 'operation' in object && isFinal(object.operation.status.phase))) relieve();
    }, signal);
  }
  const budgets = exhaustedBudgets(client, signal, onError);

  const guards: Guard[] = [
    alreadyRunning(foreignLocks({ client, namespace: settings.namespace, medik8s: settings.medik8sLeases, signal, onError })),
    uniqueMachine(directory.sharing),
    ownNode(options.hubNodes),
    controlPlaneQuorum(controlPlaneNodes(client)),
    maxNodesDown(settings.maxNodesDown, settings.maxNodesDownPerZone),
    cooldown(settings.cooldownMs),
    veto,
    disruptionBudgets(budgets.find),
  ];
  const store = operationStore(client, settings.namespace);
  const room: NodeRoom = { client, directory, operations, store, ledger, guards, connect, machineOf, settings, metrics, onError };

  const synced = (cache: { synced(): boolean; failure(): string | undefined }, what: string) => () =>
    cache.synced() ? undefined : `${what} not read yet${cache.failure() ? `: ${cache.failure()}` : ''}`;
  return {
    resources: nodeResources(room),
    lead: (leadership) =>
      runOperations(leadership, {
        client,
        directory,
        ledger,
        guards,
        connect,
        settings,
        events: options.events,
        metrics,
        store,
        cache: operations,
        identity: options.identity,
        cloudTurn: turns(CLOUD_CALLS),
        onError,
      }),
    checks: { nodes: synced(directory.cache, 'nodes'), operations: synced(operations, 'operations') },
  };
}
