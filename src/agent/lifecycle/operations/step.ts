import type { ClusterSpec } from '../../../kube/lifecycle.ts';
import type { Command, Facts, MachineView, ServiceChange } from '../machine/machine.ts';

/**
 * One change of the machine. Steps are data, so that a dry run shows exactly what would be done, and so that everything which is touched is saved before.
 * `write`, `fetch`, `remove` and `claim` save what stood there (the before-image) ahead of the change; undo brings it back.
 */
export type Action =
  | { kind: 'command'; command: Command }
  | { kind: 'write'; path: string; content: string; mode: number; secret?: boolean }
  /** Gets a file from the source of artifacts, checks its SHA-256, and puts it at `path`. */
  | { kind: 'fetch'; path: string; artifact: string; mode: number }
  | { kind: 'remove'; path: string }
  /** The next commands create or change these files or trees: what is there is copied, what is not there will be removed by undo. */
  | { kind: 'claim'; paths: readonly string[] }
  | { kind: 'service'; unit: string; change: ServiceChange }
  /** Waits until it is so, asking each second. `text`: what for. The last words of `until`'s errors stand in the failure. */
  | { kind: 'wait'; text: string; until: (machine: MachineView, signal: AbortSignal) => Promise<boolean>; timeoutMs: number };

/** What a step sees. It reads the machine and says what to do; it changes nothing itself. */
export type StepContext = {
  machine: MachineView;
  facts: Facts;
  /** Complete, with defaults. */
  spec: ClusterSpec;
  /** The one before, for upgrade and patch; undefined for install. */
  before: ClusterSpec | undefined;
  /** Where the operation keeps its own files (snapshots, configuration that is not part of the machine), for example /var/lib/fairlead-agent/operations/ID. */
  folder: string;
  /** Paths, relative to the source, of the artifacts that it has below `prefix`. Empty without a source of artifacts. */
  artifacts(prefix: string): Promise<string[]>;
  signal: AbortSignal;
};

export type Step = {
  /** kebab-case, unique in its operation, never changed: journals of older versions name it. */
  name: string;
  /** True when what the step is for is so already: it is skipped, and neither undo nor delete touches it. Asked after a crash too. */
  check(context: StepContext): Promise<boolean>;
  /** What to do. Asked once, right before; may look at the machine. */
  run(context: StepContext): Promise<Action[]>;
  /** Throws an Error that says what is not as it should be. */
  verify(context: StepContext): Promise<void>;
  /** What takes it back, besides the before-images of files, which follow by themselves. Must work after `run` was cut at any point, and again after itself was cut. */
  undo(context: StepContext): Promise<Action[]>;
  /**
   * What happens when the agent died while it ran: `repeat` its actions, `undo` it first and then run it anew (default), or undo the whole operation (`abandon`).
   */
  afterCrash?: 'repeat' | 'undo' | 'abandon';
};

/** An Error of this class is the caller's to read: it was made from the machine's own words and holds no secret. */
export class StepError extends Error {
  /** What a person can type to go on. */
  readonly nextCommand: string | undefined;

  constructor(message: string, nextCommand?: string) {
    super(message);
    this.name = 'StepError';
    this.nextCommand = nextCommand;
  }
}
