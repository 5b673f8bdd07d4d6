import type { Ec2Call } from './ec2-call.ts';
import { pause } from './wait.ts';

/** What to do to calls that match. "Before" and "after" are meant from the effect, which is moto's acceptance of the call. */
export type Fault = {
  /** For example RebootInstances or DescribeInstances; '*' for all. */
  action: string;
  /** Only calls that name this instance. */
  instanceID?: string;
  /** Only calls with (true) or without (false) DryRun; default both. */
  dryRun?: boolean;
  /** How many calls are hit, default all until `remove`. */
  times?: number;
  /** Milliseconds. */
  delayBefore?: number;
  delayAfter?: number;
  /** Waits until `release`. */
  hold?: 'before' | 'after';
  /** Closes the connection: the caller cannot know whether the call had its effect. */
  drop?: 'before' | 'after';
  /** Answers with this EC2 error in place of forwarding. */
  respond?: { status: number; code: string; message?: string };
};

export type Injection = {
  /** How many calls it has hit. */
  hits(): number;
  /** Lets go of calls that are held, and of those to come. */
  release(): void;
  /** Takes the fault away and lets go of what it holds. */
  remove(): void;
};

export type ActiveFault = Fault & { waitBefore(): Promise<void>; waitAfter(): Promise<void> };

export type FaultTable = {
  inject(fault: Fault): Injection;
  /** The first fault that matches the call; counts as a hit. */
  match(call: Ec2Call): ActiveFault | undefined;
  /** Removes all and lets go of everything. */
  clear(): void;
};

/** Faults by the order they were injected; `signal` cuts all delays short. */
export function createFaultTable(signal: AbortSignal): FaultTable {
  const active = new Map<Injection, { matches(call: Ec2Call): boolean; fault: ActiveFault; hit(): void }>();

  function inject(fault: Fault): Injection {
    let hits = 0;
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const hold = async (when: 'before' | 'after', delay = 0) => {
      if (fault.hold === when) await released;
      if (delay > 0) await pause(delay, signal).catch(() => undefined);
    };
    const injection: Injection = {
      hits: () => hits,
      release,
      remove() {
        release();
        active.delete(injection);
      },
    };
    active.set(injection, {
      fault: { ...fault, waitBefore: () => hold('before', fault.delayBefore), waitAfter: () => hold('after', fault.delayAfter) },
      matches: (call) =>
        (fault.action === '*' || fault.action === call.action) &&
        (fault.instanceID === undefined || call.instanceIDs.includes(fault.instanceID)) &&
        (fault.dryRun === undefined || fault.dryRun === call.dryRun) &&
        hits < (fault.times ?? Number.POSITIVE_INFINITY),
      hit: () => {
        hits++;
      },
    });
    return injection;
  }

  return {
    inject,
    match(call) {
      for (const entry of active.values()) {
        if (!entry.matches(call)) continue;
        entry.hit();
        return entry.fault;
      }
      return undefined;
    },
    clear() {
      for (const injection of [...active.keys()]) injection.remove();
    },
  };
}
