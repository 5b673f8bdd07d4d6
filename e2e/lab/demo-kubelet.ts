import { randomUUID } from 'node:crypto';
import { type ApiClient, ApiError, patch } from './api-client.ts';
import type { Ec2Call } from './ec2-call.ts';
import type { Ec2Gate } from './ec2-gate.ts';
import { type KubeNode, type LabNode, readyCondition } from './nodes.ts';
import { pause } from './wait.ts';

/**
 * How a node takes a power action.
 * normal: goes NotReady, then comes back with a new boot id (after a stop: only after a start).
 * never-back: goes NotReady and stays so.
 * same-boot-id: goes NotReady and comes back Ready with the boot id it had, as when only the kubelet restarted.
 * deaf: nothing changes at all, as when the guest ignores the ACPI signal.
 */
export type Behaviour = 'normal' | 'never-back' | 'same-boot-id' | 'deaf';

/** Plays the kubelet of every node whose instance gets a power action through the gate. */
export type DemoKubelet = {
  /** From the next action on. */
  setBehaviour(nodeName: string, behaviour: Behaviour): void;
  /** Milliseconds that a node is NotReady; from the next action on. */
  setDownTime(milliseconds: number): void;
  /** Tells it about a node that was made after the lab came up. Nodes it does not know are looked up by ProviderID. */
  watchNode(node: LabNode): void;
  /** Makes a node go or come by itself, without its cloud. */
  setReady(nodeName: string, ready: boolean): Promise<void>;
  /** Boots the node by itself: a new boot id, Ready. */
  boot(nodeName: string): Promise<void>;
  /** Resolves when no power action is being played. */
  idle(): Promise<void>;
  stop(): Promise<void>;
};

export type DemoKubeletOptions = {
  client: ApiClient;
  gate: Ec2Gate;
  nodes: readonly LabNode[];
  /** Milliseconds that a node is NotReady; default 300. */
  downTime?: number;
  /** Status of Ready while it is down: False (a kubelet that says goodbye) or Unknown (one that fell silent). Default False. */
  downStatus?: 'False' | 'Unknown';
};

function readyPatch(status: 'True' | 'False' | 'Unknown', bootID?: string): object {
  const now = new Date().toISOString();
  const [reason, message] = {
    True: ['KubeletReady', 'kubelet is posting ready status'],
    False: ['KubeletNotReady', 'node is shutting down'],
    Unknown: ['NodeStatusUnknown', 'Kubelet stopped posting node status.'],
  }[status] as [string, string];
  return {
    status: {
      conditions: [{ type: 'Ready', status, reason, message, lastHeartbeatTime: now, lastTransitionTime: now }],
      ...(bootID === undefined ? {} : { nodeInfo: { bootID } }),
    },
  };
}

export function startDemoKubelet(options: DemoKubeletOptions): DemoKubelet {
  const { client, gate, downStatus = 'False' } = options;
  let downTime = options.downTime ?? 300;
  const end = new AbortController();
  const names = new Map(options.nodes.map((node) => [node.instanceID, node.name]));
  const behaviours = new Map<string, Behaviour>();
  /** The action that each node is going through; a new one takes its place. */
  const playing = new Map<string, { controller: AbortController; done: Promise<void> }>();

  async function patchStatus(name: string, body: object, signal?: AbortSignal): Promise<void> {
    const path = `/api/v1/nodes/${encodeURIComponent(name)}/status`;
    for (;;) {
      try {
        await client.json('PATCH', path, { body, contentType: patch.strategic, ...(signal ? { signal } : {}) });
        return;
      } catch (error) {
        signal?.throwIfAborted();
        // A real kubelet keeps trying while the API server is away. A node that was deleted has no kubelet.
        if (error instanceof ApiError && error.status === 404) return;
        if (error instanceof ApiError && error.status < 500 && error.status !== 429) throw error;
        await pause(100, signal);
      }
    }
  }

  async function nameOf(instanceID: string): Promise<string | undefined> {
    const known = names.get(instanceID);
    if (known !== undefined) return known;
    const { items } = await client.json<{ items: KubeNode[] }>('GET', '/api/v1/nodes');
    for (const node of items) {
      const id = node.spec.providerID?.split('/').at(-1);
      if (id) names.set(id, node.metadata.name);
    }
    return names.get(instanceID);
  }

  async function play(action: string, name: string, signal: AbortSignal): Promise<void> {
    const behaviour = behaviours.get(name) ?? 'normal';
    if (behaviour === 'deaf') return;
    if (action !== 'StartInstances') await patchStatus(name, readyPatch(downStatus), signal);
    if (action === 'StopInstances' || behaviour === 'never-back') return;
    await pause(downTime, signal);
    const node = await client.json<KubeNode>('GET', `/api/v1/nodes/${name}`, { signal });
    // EC2 accepts StartInstances for an instance that runs; nothing boots then.
    if (action === 'StartInstances' && readyCondition(node).status === 'True') return;
    await patchStatus(name, readyPatch('True', behaviour === 'same-boot-id' ? undefined : randomUUID()), signal);
  }

  async function react(action: string, instanceID: string): Promise<void> {
    const name = await nameOf(instanceID);
    if (name === undefined) return;
    const before = playing.get(name);
    before?.controller.abort(new Error('another power action came'));
    const controller = new AbortController();
    const signal = AbortSignal.any([controller.signal, end.signal]);
    const done = (before?.done ?? Promise.resolve())
      .then(() => play(action, name, signal))
      .catch((error: unknown) => {
        if (!signal.aborted) process.stderr.write(`demo kubelet of ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
      })
      .finally(() => {
        if (playing.get(name)?.controller === controller) playing.delete(name);
      });
    playing.set(name, { controller, done });
    await done;
  }

  const reactions = new Set<Promise<void>>();
  const unsubscribe = gate.onAccepted((call: Ec2Call) => {
    for (const instanceID of call.instanceIDs) {
      const reaction = react(call.action, instanceID).catch((error: unknown) => {
        if (!end.signal.aborted) process.stderr.write(`demo kubelet: ${error instanceof Error ? error.message : String(error)}\n`);
      });
      reactions.add(reaction);
      reaction.then(() => reactions.delete(reaction)).catch(() => undefined);
    }
  });

  const idle = async () => {
    while (reactions.size > 0) await Promise.all(reactions);
  };

  return {
    setBehaviour: (nodeName, behaviour) => void behaviours.set(nodeName, behaviour),
    setDownTime(milliseconds) {
      downTime = milliseconds;
    },
    watchNode: (node) => void names.set(node.instanceID, node.name),
    setReady: (nodeName, ready) => patchStatus(nodeName, readyPatch(ready ? 'True' : downStatus), end.signal),
    boot: (nodeName) => patchStatus(nodeName, readyPatch('True', randomUUID()), end.signal),
    idle,
    async stop() {
      unsubscribe();
      end.abort(new Error('the demo kubelet stops'));
      await idle();
    },
  };
}
