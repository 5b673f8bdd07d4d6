import type { Command, CommandResult, MachineView } from '../../machine/machine.ts';
import { type Action, type Step, type StepContext, StepError } from '../../operations/step.ts';

/** A command as an action; a minute unless told otherwise. */
export const run = (argv: readonly string[], options: Partial<Omit<Command, 'argv'>> = {}): Action => ({
  kind: 'command',
  command: { timeoutMs: 60_000, ...options, argv },
});

/** Exit codes of commands that take something back which may be gone already: their failing is told by what follows. */
export const ANY_EXIT: readonly number[] = Array.from({ length: 256 }, (_, code) => code);

/** A command of an undo whose exit code does not matter. */
export const tryRun = (argv: readonly string[], timeoutMs = 60_000): Action => run(argv, { timeoutMs, allowExit: ANY_EXIT });

/** What a command that only reads prints; undefined when it is not there or fails. */
export async function ask(machine: MachineView, argv: readonly string[], timeoutMs = 20_000): Promise<string | undefined> {
  const [program = ''] = argv;
  if (!program.startsWith('/') && !(await machine.which(program))) return undefined;
  const result: CommandResult | undefined = await machine.inspect({ argv, timeoutMs }).catch(() => undefined);
  return result?.stdout;
}

/** Lines that are not empty. */
export const lines = (text: string | undefined): string[] =>
  (text ?? '')
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);

type Parts = Partial<Step> & { name: string; run: (context: StepContext) => Promise<Action[]> };

/** A step; what is left out does nothing, and `check` says false. */
export function step(parts: Parts): Step {
  return { check: async () => false, verify: async () => undefined, undo: async () => [], ...parts };
}

/** Throws a StepError unless it is so. */
export function demand(fact: boolean, message: string, nextCommand?: string): void {
  if (!fact) throw new StepError(message, nextCommand);
}

/**
 * The step with marks in the operation's folder around its actions, for one whose `check` can be true before its last action is done: cut in between, it says false until they have
 * all been done.
 */
export function wholeOnly(inner: Step): Step {
  const mark = (folder: string, edge: 'begun' | 'done') => `${folder}/${inner.name}.${edge}`;
  const write = (path: string): Action => ({ kind: 'write', path, content: '', mode: 0o600 });
  return {
    ...inner,
    check: async (context) => {
      const { machine, folder } = context;
      const cut = (await machine.stat(mark(folder, 'begun'))) && !(await machine.stat(mark(folder, 'done')));
      return !cut && (await inner.check(context));
    },
    run: async (context) => [write(mark(context.folder, 'begun')), ...(await inner.run(context)), write(mark(context.folder, 'done'))],
  };
}
