import type { ActiveOperation, GuardInput } from '../../../src/hub/nodes/guards/guard.ts';
import type { NodeFacts } from '../../../src/hub/nodes/node-facts.ts';
import type { Action } from '../../../src/hub/nodes/schema.ts';

/** A Ready worker node. */
export const facts = (name: string, more: Partial<NodeFacts> = {}): NodeFacts => ({
  name,
  uid: `uid-${name}`,
  resourceVersion: '1',
  creationTimestamp: undefined,
  labels: {},
  providerID: '',
  unschedulable: false,
  cordonedBy: undefined,
  ready: 'True',
  bootID: 'boot-1',
  controlPlane: false,
  zone: '',
  operation: undefined,
  lastRestart: undefined,
  veto: undefined,
  ...more,
});

/** Operations that run on the nodes. */
export const active = (...nodes: NodeFacts[]): ActiveOperation[] =>
  nodes.map(({ name, zone, controlPlane }) => ({ name: `restart-${name}`, node: name, zone, controlPlane, action: 'Restart' }));

/** What a guard sees when `action` is asked for the first of the nodes. */
export function input(
  nodes: NodeFacts[],
  more: { active?: ActiveOperation[]; action?: Action; now?: Date; spec?: Partial<GuardInput['spec']> } = {},
): GuardInput {
  const [node] = nodes;
  if (!node) throw new Error('no node');
  return {
    node,
    spec: { nodeName: node.name, action: more.action ?? 'Restart', requestedBy: { username: 'u' }, ...more.spec },
    nodes: () => nodes,
    active: more.active ?? [],
    now: more.now ?? new Date(),
  };
}
