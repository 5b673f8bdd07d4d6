import type { Command } from './command.ts';
import { errorText } from './errors.ts';
import { EXIT, type ExitCode, ExitError, UsageError } from './exit.ts';
import { parseFlags } from './flags.ts';
import { helpText } from './help.ts';
import { onInterrupt } from './interrupt.ts';
import { HELP_FLAG, KUBECTL_FLAGS } from './kubectl-flags.ts';
import { type OpenSession, openSession } from './session.ts';
import { processStdio, type Stdio } from './stdio.ts';

/** Runs one command line and returns its exit code; every error becomes one clear line on stderr. */
export async function runCommand(
  plugin: string,
  command: Command,
  args: readonly string[],
  stdio: Stdio = processStdio(process.env),
): Promise<ExitCode> {
  const interrupt = onInterrupt();
  let session: OpenSession | undefined;
  try {
    const flags = parseFlags(args, [...command.flags, ...KUBECTL_FLAGS]);
    if (flags.on(HELP_FLAG.name)) {
      stdio.out(helpText(command));
      return EXIT.done;
    }
    session = openSession(plugin, flags, stdio, interrupt.signal);
    const code = await command.run(session);
    if (code === EXIT.done && flags.on('warnings-as-errors') && session.warned()) {
      throw new ExitError(EXIT.error, 'the server sent a warning, and --warnings-as-errors is set');
    }
    return code;
  } catch (error) {
    if (interrupt.signal.aborted) {
      stdio.err('interrupted\n');
      return EXIT.error;
    }
    stdio.err(`error: ${errorText(error)}\n`);
    if (error instanceof UsageError) {
      stdio.err(`See '${command.name} --help' for usage.\n`);
      return EXIT.usage;
    }
    return error instanceof ExitError ? error.code : EXIT.error;
  } finally {
    session?.close();
    interrupt.release();
  }
}
