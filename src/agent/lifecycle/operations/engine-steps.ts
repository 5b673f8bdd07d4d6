import type { Baseline } from './baseline.ts';
import type { InstalledStep } from './records.ts';
import { type Step, type StepContext, StepError } from './step.ts';

/** A step as the engine runs it. */
export type EngineStep = Step & {
  /** Another folder than the operation's for `context.folder`. */
  folder?: string;
  /** False: nothing is saved before its actions, because it takes back and is not taken back. */
  saves: boolean;
  /** Work of the engine's own, in place of actions. */
  perform?: (context: StepContext) => Promise<void>;
};

export const RESTORE_FILES = 'restore-files';
const REMOVE = 'remove-';

/**
 * The steps of Delete: `before` (the distribution's), then each step of Install that took effect, newest first, taken back by its own `undo`, then the files as they were before
 * the cluster.
 */
export function deleteSteps(given: {
  before: readonly Step[];
  install: readonly Step[];
  installed: readonly InstalledStep[];
  restore: (context: StepContext) => Promise<void>;
}): EngineStep[] {
  const removals = [...given.installed].reverse().map(({ name, folder }): EngineStep => {
    const step = given.install.find((one) => one.name === name) ?? unknownStep(name);
    return { ...takingBack(`${REMOVE}${name}`), folder, run: (context) => step.undo(context) };
  });
  return [...given.before.map((step) => ({ ...step, saves: true })), ...removals, { ...takingBack(RESTORE_FILES), perform: given.restore }];
}

const takingBack = (name: string): EngineStep => ({
  name,
  saves: false,
  check: async () => false,
  run: async () => [],
  verify: async () => undefined,
  undo: async () => [],
  afterCrash: 'repeat',
});

/** Steps in the order of the journal's names; one that this version of the agent does not know fails as soon as it is needed. */
export function stepsByName(names: readonly string[], steps: readonly EngineStep[]): EngineStep[] {
  return names.map((name) => steps.find((step) => step.name === name) ?? { ...unknownStep(name), saves: true });
}

function unknownStep(name: string): Step {
  const fail = async () => {
    throw new StepError(`this version of the agent does not know the step ${name}: another version began the operation`);
  };
  return { name, check: fail, run: fail, verify: fail, undo: fail, afterCrash: 'abandon' };
}

/** Throws when two steps have one name. */
export function refuseDoubles(steps: readonly Step[]): void {
  const names = new Set<string>();
  for (const { name } of steps) {
    if (names.has(name)) throw new Error(`two steps are called ${name}`);
    names.add(name);
  }
}

/** What `restore-files` does, in words, for a dry run. Newest first, as it is done. */
export function restorations(baseline: Baseline): { path: string; text: string; removes: boolean }[] {
  return [...baseline.images]
    .reverse()
    .filter(({ kind }) => kind !== 'kept')
    .map(({ path, kind }) => {
      if (kind === 'copy') return { path, text: `put ${path} back as it was before the cluster`, removes: false };
      const text = kind === 'absent' ? `remove ${path}` : `remove the folder ${path} if it is empty`;
      return { path, text, removes: true };
    });
}
