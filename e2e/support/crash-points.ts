import type { Lab } from '../lab/lab.ts';
import type { LabNode } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';
import type { KubeGate } from './kube-gate.ts';
import { classifier, type Write, writes } from './points.ts';

/** A moment of a draining restart at which a fault hits the leader. */
export type CrashPoint = { title: string; arm: (node: LabNode, on: { lab: Lab; gate: KubeGate }) => Armed };

export type Armed = {
  /** Resolves when the operation stands at the point; it stays there until `resume`. */
  reached: Promise<void>;
  /** Lets the world go on after the fault: requests under way arrive or are lost, as the point says. */
  resume: () => void;
  /** Whether `resume` cannot wait: the call of the cloud is under way, and one that arrives minutes later cannot be told from a lost one. */
  urgent: boolean;
};

const atWrite = (write: Write, when: 'before' | 'after', then: 'lost' | 'late'): CrashPoint => ({
  title: `${when} ${write}${when === 'before' && then === 'late' ? ', which arrives late' : ''}`,
  arm(node, { gate }) {
    const name = classifier(node);
    const hold = gate.hold(when, (request) => name(request) === write);
    return { reached: hold.reached, resume: then === 'lost' ? hold.drop : hold.release, urgent: false };
  },
});

const atCall = (title: string, hold: 'before' | 'after', lost = false): CrashPoint => ({
  title,
  arm(node, { lab }) {
    const { instanceID } = node;
    const fault = { action: 'RebootInstances', instanceID, dryRun: false, times: 1, hold, ...(lost && { drop: 'before' as const }) };
    const injection = lab.ec2.gate.inject(fault);
    const there = () =>
      hold === 'before'
        ? injection.hits() > 0
        : lab.ec2.gate
            .calls()
            .some((c) => c.accepted && c.instanceIDs.includes(instanceID) && c.answeredAt !== undefined && c.receivedAt >= armedAt);
    const armedAt = Date.now();
    const reached = waitFor(there, {
      what: `the call for ${node.name} to be ${hold === 'before' ? 'on its way' : 'done'}`,
      interval: 5,
      timeout: 60_000,
    });
    return { reached: reached.then(() => undefined), resume: () => injection.release(), urgent: true };
  },
});

/** Before and after each write (the request is lost with the leader, or the answer is), and around the call of the cloud. */
export const crashPoints: readonly CrashPoint[] = [
  ...writes.flatMap((write) => [atWrite(write, 'before', 'lost'), atWrite(write, 'after', 'late')]),
  atCall('call under way, lost', 'before', true),
  atCall('call under way, takes effect after the death', 'before'),
  atCall('call has its effect, answer under way', 'after'),
];

/** The same for a leader that is frozen and wakes up again: what it has under way arrives in the end. */
export const freezePoints: readonly CrashPoint[] = [
  ...writes.flatMap((write) => [atWrite(write, 'before', 'late'), atWrite(write, 'after', 'late')]),
  atCall('call under way', 'before'),
  atCall('call has its effect, answer under way', 'after'),
];

/**
 * Shares the points out to `count` faults so that each fault hits points far from each other: a held write of the ledger also holds up all operations that
 * are about to make theirs, so two late points must not come together.
 */
export function sharedOut(points: readonly CrashPoint[], count: number): CrashPoint[][] {
  return Array.from({ length: count }, (_, group) => points.filter((_point, index) => index % count === group));
}
