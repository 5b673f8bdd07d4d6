import { accessSync, chmodSync, constants, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import type { Command } from './command.ts';
import { EXIT, ExitError, UsageError } from './exit.ts';

/** Word by which a completion file calls this plugin. */
export const COMPLETE_WORD = '__complete';
const MARK = 'written by kubectl infra completion install';

/** `kubectl infra completion install`. */
export const infraCompletion: Command = {
  name: 'kubectl infra completion',
  usage: 'install',
  summary: 'Install shell completion for both plugins',
  description: `kubectl infra completion - make TAB complete kubectl restart and kubectl infra.

Writes kubectl_complete-restart and kubectl_complete-infra beside this plugin (or into --dir, which must be in PATH). kubectl's own completion
(kubectl completion --help) calls them, in every shell that it supports.`,
  examples: ['kubectl infra completion install', 'kubectl infra completion install --dir ~/.local/bin'],
  flags: [
    { name: 'dir', kind: 'text', placeholder: 'FOLDER', help: 'Folder to write to, in PATH; by default the one of this plugin' },
    { name: 'overwrite', kind: 'switch', help: 'Replace files of these names that something else wrote', default: 'false' },
  ],
  words: 'completion',
  run: async ({ flags, stdio }) => {
    if (flags.words.length !== 1 || flags.words[0] !== 'install') throw new UsageError('what to do? kubectl infra completion install');
    const plugin = pluginPath(process.env);
    const folder = resolve(flags.text('dir') ?? dirname(plugin));
    for (const name of ['restart', 'infra']) {
      const windows = process.platform === 'win32';
      const file = join(folder, `kubectl_complete-${name}${windows ? '.cmd' : ''}`);
      if (!flags.on('overwrite') && foreign(file))
        throw new ExitError(EXIT.error, `${file} was written by something else: remove it, or use --overwrite`);
      const text = windows
        ? `@rem ${MARK}\r\n@"${plugin}" ${COMPLETE_WORD} ${name} %*\r\n`
        : `#!/bin/sh\n# ${MARK}\nexec '${plugin.replaceAll("'", "'\\''")}' ${COMPLETE_WORD} ${name} "$@"\n`;
      try {
        // A shell that completes at this moment must find the old file or the new one.
        writeFileSync(`${file}.new`, text, { mode: 0o755 });
        chmodSync(`${file}.new`, 0o755);
        renameSync(`${file}.new`, file);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        throw new ExitError(EXIT.error, `cannot write ${file}: ${why}; choose a folder in PATH that you may write to with --dir`);
      }
      stdio.out(`${file}\n`);
    }
    if (
      !(process.env['PATH'] ?? '')
        .split(delimiter)
        .map((entry) => resolve(entry))
        .includes(folder)
    ) {
      stdio.err(`${folder} is not in PATH: kubectl will not find the files until it is\n`);
    }
    return EXIT.done;
  },
};

/** The plugin as kubectl finds it, so that a link (krew's, for example) keeps working when what it points to is replaced. */
function pluginPath(env: NodeJS.ProcessEnv): string {
  const name = process.platform === 'win32' ? 'kubectl-infra.exe' : 'kubectl-infra';
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    const path = join(resolve(folder), name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return resolve(process.argv[1] ?? process.execPath);
}

function foreign(file: string): boolean {
  try {
    return !readFileSync(file, 'utf8').includes(MARK);
  } catch {
    return false;
  }
}
