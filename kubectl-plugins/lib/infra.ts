import type { Command } from './command.ts';
import { errorText } from './errors.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { parseFlags } from './flags.ts';
import { overviewText } from './help.ts';
import { infraAudit } from './infra-audit.ts';
import { infraCancel } from './infra-cancel.ts';
import { infraCerts } from './infra-certs.ts';
import { infraClusters } from './infra-clusters.ts';
import { infraCompletion } from './infra-completion.ts';
import { infraApprove, infraDeny } from './infra-decide.ts';
import { infraInstance } from './infra-instance.ts';
import { infraJoinCommand } from './infra-join-command.ts';
import { infraKubeconfig } from './infra-kubeconfig.ts';
import {
  infraRestartMachine,
  lifecycleCreate,
  lifecycleDelete,
  lifecyclePatch,
  lifecycleRepair,
  lifecycleUpgrade,
} from './infra-lifecycle.ts';
import { lifecycleGet } from './infra-lifecycle-get.ts';
import { infraLogs, lifecycleLogs } from './infra-logs.ts';
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
  lifecycleCreate,
  lifecycleGet,
  lifecycleUpgrade,
  lifecyclePatch,
  lifecycleRepair,
  lifecycleDelete,
  lifecycleLogs,
  infraCerts,
  infraAudit,
  infraRestartMachine,
  infraCompletion,
  infraVersion,
];

/** Words that mean a command besides its name. */
const ALIASES: Record<string, string> = { node: 'nodes', operation: 'operations', log: 'logs', cluster: 'clusters', request: 'requests' };

const PREFIX = 'kubectl infra ';
/** First words of names that have two. */
const GROUPS: ReadonlySet<string> = new Set(
  INFRA.flatMap(({ name }) => {
    const [first = '', ...more] = name.slice(PREFIX.length).split(' ');
    return more.length > 0 ? [first] : [];
  }),
);

export type Found = {
  command: Command | undefined;
  /** What was typed as the name, '' for nothing. */
  words: string;
  /** The arguments without the words of the name. */
  rest: string[];
  /** The first word of a name, when it needs a second. */
  group: string | undefined;
};

/** The command that the arguments name. Flags of kubectl may stand between the words. */
export function findCommand(args: readonly string[]): Found {
  const first = commandIndex(args);
  const word = args[first];
  if (word === undefined) return { command: undefined, words: '', rest: [...args], group: undefined };
  const rest = args.toSpliced(first, 1);
  if (!GROUPS.has(word)) return { command: commandNamed(word), words: word, rest, group: undefined };
  const second = first + commandIndex(rest.slice(first));
  const verb = rest[second];
  if (verb === undefined) return { command: undefined, words: word, rest, group: word };
  return { command: commandNamed(`${word} ${verb}`), words: `${word} ${verb}`, rest: rest.toSpliced(second, 1), group: word };
}

const commandNamed = (words: string): Command | undefined =>
  INFRA.find((command) => command.name === `${PREFIX}${ALIASES[words] ?? words}`);

function overview(group: string | undefined): string {
  if (group === undefined) return overviewText('kubectl infra', 'the machines under nodes and the clusters behind this one', INFRA);
  const plugin = `${PREFIX}${group}`;
  const commands = INFRA.filter(({ name }) => name.startsWith(`${plugin} `));
  return overviewText(plugin, 'the single-node clusters on machines', commands);
}

const isHelp = (arg: string) => arg === '--help' || arg === '-h';

/** Runs `kubectl infra ARGS`. Flags of kubectl may stand before the command, as with kubectl itself. */
export async function runInfra(args: readonly string[]): Promise<ExitCode> {
  const asksHelp = args[commandIndex(args)] === 'help';
  const { command, words, rest, group } = findCommand(asksHelp ? args.toSpliced(commandIndex(args), 1) : args);
  if (command) return await runCommand('infra', command, asksHelp ? ['--help'] : rest);
  const asked = asksHelp || args.some(isHelp);
  if (asksHelp || words === '' || words === group) {
    (asked ? process.stdout : process.stderr).write(overview(group));
    return asked ? EXIT.done : EXIT.usage;
  }
  process.stderr.write(`error: unknown command "${words}" for "kubectl infra"\nSee 'kubectl infra --help' for usage.\n`);
  return EXIT.usage;
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
