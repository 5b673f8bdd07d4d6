import { pino } from 'pino';
import { FlagError, usage } from '../kube/flags.ts';
import { tuneHeapGrowth } from '../kube/heap-growth.ts';
import { VERSION } from '../kube/version.ts';
import { FLAGS } from './hub-flags.ts';
import { type Options, parseOptions } from './options.ts';
import { type Hub, startHub } from './server.ts';

const INTRO = `fairlead-hub serves infraops.michael.io behind kube-aggregator: it restarts, stops and starts the machines under nodes.

Usage:
  fairlead-hub [flags]`;

/** Verbosity as Kubernetes' components count it. */
const LEVELS = ['info', 'info', 'debug', 'debug', 'trace'];

async function main(args: readonly string[]): Promise<number> {
  let options: Options;
  try {
    const parsed = parseOptions(args, process.env);
    if ('print' in parsed) {
      process.stdout.write(parsed.print === 'help' ? usage(INTRO, FLAGS) : `fairlead-hub v${VERSION}\n`);
      return 0;
    }
    options = parsed;
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    process.stderr.write(`fairlead-hub: ${error.message}\n`);
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

  let hub: Hub;
  try {
    const starting = startHub(options, log);
    const first = await Promise.race([starting, asked]);
    // A signal while starting: nothing is served yet, so there is nothing to drain.
    if (typeof first === 'string') return 0;
    hub = first;
  } catch (error) {
    log.fatal(error instanceof Error ? error.message : String(error));
    return 1;
  }

  await asked;
  // A second signal ends the process at once.
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => process.exit(1));
  await hub.stop();
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
// Sockets of watches may take a moment to close; nothing is left to do for this process.
process.exit();
