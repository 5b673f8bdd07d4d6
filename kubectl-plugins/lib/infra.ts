import type { Command } from './command.ts';
import { errorText } from './errors.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { parseFlags } from './flags.ts';
import { overviewText } from './help.ts';
import { infraCancel } from './infra-cancel.ts';
import { infraClusters } from './infra-clusters.ts';
import { infraCompletion } from './infra-completion.ts';
import { infraApprove, infraDeny } from './infra-decide.ts';
import { infraInstance } from './infra-instance.ts';
import { infraJoinCommand } from './infra-join-command.ts';
import { infraKubeconfig } from './infra-kubeconfig.ts';
import { infraLogs } from './infra-logs.ts';
import { infraNodes } from './infra-nodes.ts';
import { infraOperations } from './infra-operations.ts';
import { infraStart, infraStop } from './infra-power.ts';
import { infraRequests } from './infra-requests.ts';
import { infraVersion } from './infra-version.ts';
import { KUBECTL_FLAGS } from './kubectl-flags.ts';
import { runCommand } from './run-command.ts';

/** The commands of `kubectl infra`. */
export const INFRA: readonly Command[] = [
  infraNodes,
  infraOperations,
  infraStop,
  infraStart,
  infraInstance,
  infraCancel,
  infraLogs,
  infraClusters,
  infraRequests,
  infraApprove,
  infraDeny,
  infraKubeconfig,
  infraJoinCommand,
  infraCompletion,
  infraVersion,
];

/** Words that mean a command besides its name. */
const ALIASES: Record<string, string> = { node: 'nodes', operation: 'operations', log: 'logs', cluster: 'clusters', request: 'requests' };

export const commandNamed = (word: string): Command | undefined =>
  INFRA.find((command) => command.name === `kubectl infra ${ALIASES[word] ?? word}`);

const overview = () => overviewText('kubectl infra', 'the machines under nodes and the clusters behind this one', INFRA);

/** Runs `kubectl infra ARGS`. Flags of kubectl may stand before the command, as with kubectl itself. */
export async function runInfra(args: readonly string[]): Promise<ExitCode> {
  const at = commandIndex(args);
  const word = args[at];
  if (word === undefined || word === 'help') {
    const command = commandNamed(args[at + 1] ?? '');
    if (command) return await runCommand('infra', command, ['--help']);
    const text = overview();
    const asked = word === 'help' || args.some((arg) => arg === '--help' || arg === '-h');
    (asked ? process.stdout : process.stderr).write(text);
    return asked ? EXIT.done : EXIT.usage;
  }
  const command = commandNamed(word);
  if (!command) {
    process.stderr.write(`error: unknown command "${word}" for "kubectl infra"\nSee 'kubectl infra --help' for usage.\n`);
    return EXIT.usage;
  }
  return await runCommand('infra', command, args.toSpliced(at, 1));
}

/** Where the command stands: the first word that is no flag and no value of one. */
export function commandIndex(args: readonly string[]): number {
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? '';
    if (!arg.startsWith('-') || arg === '-') return at;
    try {
      parseFlags([arg], KUBECTL_FLAGS);
    } catch (error) {
      // The value is the next word.
      if (errorText(error).startsWith('flag needs an argument')) at++;
    }
  }
  return args.length;
}
