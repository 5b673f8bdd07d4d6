import { pino } from 'pino';
import { FlagError, usage } from '../kube/flags.ts';
import { tuneHeapGrowth } from '../kube/heap-growth.ts';
import { VERSION } from '../kube/version.ts';
import { type Agent, startAgent } from './agent.ts';
import { FLAGS } from './flags.ts';
import { type Options, parseOptions } from './options.ts';

const INTRO = `fairlead-agent stands for a cluster behind a firewall: it dials out to a parent cluster, registers there, and carries requests from the
parent to its own kube-apiserver.

Usage:
  fairlead-agent --parent-url https://PARENT:6443 --bootstrap-token-file FILE [flags]`;

/** Verbosity as Kubernetes' components count it. */
const LEVELS = ['info', 'info', 'debug', 'debug', 'trace'];

async function main(args: readonly string[]): Promise<number> {
  let options: Options;
  try {
    const parsed = parseOptions(args, process.env);
    if ('print' in parsed) {
      process.stdout.write(parsed.print === 'help' ? usage(INTRO, FLAGS) : `fairlead-agent v${VERSION}\n`);
      return 0;
    }
    options = parsed;
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    process.stderr.write(`fairlead-agent: ${error.message}\n`);
    return 2;
  }
  tuneHeapGrowth();
  const log = pino(
    { level: LEVELS[Math.min(options.verbosity, LEVELS.length - 1)] ?? 'info', base: null },
    pino.destination({ fd: 2, sync: true }),
  );
  const asked = new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name));
  });

  let agent: Agent;
  try {
    const first = await Promise.race([startAgent(options, log), asked]);
    // A signal while starting: nothing is served yet.
    if (typeof first === 'string') return 0;
    agent = first;
  } catch (error) {
    if (error instanceof FlagError) {
      process.stderr.write(`fairlead-agent: ${error.message}\n`);
      return 2;
    }
    log.fatal(error instanceof Error ? error.message : String(error));
    return 1;
  }
  await asked;
  // A second signal ends the process at once.
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => process.exit(1));
  await agent.stop();
  return 0;
}

// No await here: the program in an executable (hack/release) is a CommonJS script.
void main(process.argv.slice(2)).then((code) => process.exit(code));
