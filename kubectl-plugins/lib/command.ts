import type { ExitCode } from './exit.ts';
import type { Flag } from './flags.ts';
import type { Session } from './session.ts';

/** One command: what its help says, which flags it takes, and what it does. */
export type Command = {
  /** As it is typed: `kubectl infra cancel`. */
  name: string;
  /** What follows the name: `NODE... | -l SELECTOR`. */
  usage: string;
  summary: string;
  description: string;
  examples: readonly string[];
  flags: readonly Flag[];
  /** What can be completed as a word. */
  words?: 'nodes' | 'operations' | 'clusters' | 'requests' | 'completion';
  run(session: Session): Promise<ExitCode>;
};
