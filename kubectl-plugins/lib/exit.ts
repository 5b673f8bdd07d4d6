/** What the plugins' exit codes mean. Scripts rely on them; kubectl itself has only 0 and 1. */
export const EXIT = { done: 0, error: 1, usage: 2, refused: 3, unfinished: 4 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A mistake in the command line: one line, exit code 2. */
export class UsageError extends Error {}

/** An end with a message of its own, for example a wait that ran out. */
export class ExitError extends Error {
  readonly code: ExitCode;

  constructor(code: ExitCode, message: string) {
    super(message);
    this.code = code;
  }
}
