import { join } from 'node:path';
import {
  type ClusterSpec,
  CONDITION_TYPES,
  type ConditionType,
  LIFECYCLE_PHASES,
  type LifecycleCondition,
  type LifecyclePhase,
  type OperationType,
} from '../../../kube/lifecycle.ts';
import { readIfThere, writeDurably } from './durable.ts';

/** What the agent remembers of its cluster. Passwords stand in files of their own; `spec` refers to them. */
export type State = {
  phase: LifecyclePhase;
  /** The cluster as it is; undefined without one. */
  spec: ClusterSpec | undefined;
  metadata: Record<string, string>;
  /** What the operation that was begun last shall lead to. Counts while it runs. */
  wish: { type: OperationType; spec: ClusterSpec; metadata: Record<string, string> } | undefined;
  /** Whether the operations think that a cluster is there. False with a phase of Failed: an installation failed and was taken back. */
  installed: boolean;
  conditions: LifecycleCondition[];
};

/** The state on disk, in one file, read once. */
export type StateFile = {
  get(): Readonly<State>;
  /** Durable when it resolves; then `get` has it. Rejects with the system's error, and nothing is changed then. */
  change(change: Partial<State>): Promise<void>;
  /** The conditions alone, in memory: they are found out again after a restart. */
  observe(conditions: readonly ConditionChange[], now: Date): void;
};

/** A condition without its time. */
export type ConditionChange = Omit<LifecycleCondition, 'lastTransitionTime'>;

const EMPTY: State = { phase: 'NotInitialised', spec: undefined, metadata: {}, wish: undefined, installed: false, conditions: [] };

/** Reads STATE/cluster.json. Rejects when the file is there and is not what the agent wrote: going on would forget a cluster. */
export async function openState(folder: string): Promise<StateFile> {
  const path = join(folder, 'cluster.json');
  const text = await readIfThere(path);
  let state: State = text === undefined ? EMPTY : parse(text, path);
  let queue: Promise<unknown> = Promise.resolve();
  return {
    get: () => state,
    change(change) {
      const written = queue.then(async () => {
        const next = { ...state, ...change };
        await writeDurably(path, `${JSON.stringify({ version: 1, ...next })}\n`);
        // Conditions may have been observed meanwhile.
        state = { ...next, conditions: change.conditions ?? state.conditions };
      });
      queue = written.catch(() => undefined);
      return written;
    },
    observe(conditions, now) {
      state = { ...state, conditions: withConditions(state.conditions, conditions, now) };
    },
  };
}

function parse(text: string, path: string): State {
  const wrong = () =>
    new Error(`${path} is not what the agent wrote: put a copy of it back, or remove it to forget the cluster of this machine`);
  let value: Partial<State> & { version?: unknown };
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    throw wrong();
  }
  if (typeof value !== 'object' || value === null || value.version !== 1) throw wrong();
  const { phase, spec, metadata, wish, installed, conditions } = value;
  if (!phase || !LIFECYCLE_PHASES.includes(phase) || typeof installed !== 'boolean' || !Array.isArray(conditions)) throw wrong();
  return { phase, spec, metadata: metadata ?? {}, wish, installed, conditions };
}

const ORDER = new Map<string, number>(CONDITION_TYPES.map((type, index) => [type, index]));

/** The conditions with these in them, one of each type; the time of transition is kept while the status is the same. */
export function withConditions(
  present: readonly LifecycleCondition[],
  changes: readonly ConditionChange[],
  now: Date,
): LifecycleCondition[] {
  const all = new Map<ConditionType, LifecycleCondition>(present.map((condition) => [condition.type, condition]));
  for (const change of changes) {
    const before = all.get(change.type);
    const lastTransitionTime =
      before?.status === change.status && before.lastTransitionTime ? before.lastTransitionTime : now.toISOString();
    all.set(change.type, { ...change, lastTransitionTime });
  }
  return [...all.values()].sort((a, b) => (ORDER.get(a.type) ?? 0) - (ORDER.get(b.type) ?? 0));
}
