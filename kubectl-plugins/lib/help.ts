import type { Command } from './command.ts';
import type { Flag } from './flags.ts';
import { CONNECTION_FLAGS, HELP_FLAG, WARNING_FLAGS } from './kubectl-flags.ts';

/** The help of one command. */
export function helpText(command: Command): string {
  const flags = [...command.flags].sort((a, b) => a.name.localeCompare(b.name));
  return [
    command.description,
    '',
    'Usage:',
    `  ${command.name}${command.usage ? ` ${command.usage}` : ''}${flags.length > 0 ? ' [flags]' : ''}`,
    '',
    'Examples:',
    ...command.examples.map((line) => (line === '' ? '' : `  ${line}`)),
    '',
    'Flags:',
    ...flagLines([...flags, HELP_FLAG]),
    '',
    'Flags for the connection, as for every kubectl command (the others of "kubectl options" are accepted):',
    ...flagLines([...CONNECTION_FLAGS, ...WARNING_FLAGS]),
    '',
    'Exit codes: 0 done, 1 error, 2 usage, 3 refused by a guard, 4 accepted but not finished in time.',
    '',
  ].join('\n');
}

/** The help of a plugin with several commands. */
export function overviewText(plugin: string, description: string, commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => shortName(plugin, command).length));
  return [
    `${plugin} - ${description}`,
    '',
    'Usage:',
    `  ${plugin} COMMAND [flags]`,
    '',
    'Commands:',
    ...commands.map((command) => `  ${shortName(plugin, command).padEnd(width)}  ${command.summary}`),
    '',
    `Use "${plugin} COMMAND --help" for the flags and examples of a command.`,
    'Exit codes: 0 done, 1 error, 2 usage, 3 refused by a guard, 4 accepted but not finished in time.',
    '',
  ].join('\n');
}

const shortName = (plugin: string, command: Command) => command.name.slice(plugin.length + 1);

function flagLines(flags: readonly Flag[]): string[] {
  const named = flags.map((flag) => {
    const value = flag.kind === 'switch' ? '' : `=${flag.placeholder ?? 'VALUE'}`;
    return { left: `${flag.short ? `-${flag.short}, ` : '    '}--${flag.name}${value}`, flag };
  });
  const width = Math.max(...named.map(({ left }) => left.length));
  return named.map(
    ({ left, flag }) => `  ${left.padEnd(width)}  ${flag.help}${flag.default === undefined ? '' : ` (default ${flag.default})`}`,
  );
}
