import { type Command, CommandError, type CommandResult } from './machine.ts';
import { fullUnitName, type Services } from './services.ts';

type Run = (command: Command, signal: AbortSignal) => Promise<CommandResult>;

/** Units by systemctl. A start or restart that fails says the last lines of the unit's own log. */
export function systemdServices(run: Run): Services {
  const asking = new AbortController().signal;
  const ask = (argv: string[], timeoutMs = 10_000) => run({ argv, timeoutMs, allowExit: [0, 1, 2, 3, 4, 5] }, asking);
  const lastLog = async (unit: string, lines: number) => {
    const { stdout } = await ask(['journalctl', '--no-pager', '-o', 'cat', '-n', String(lines), '-u', fullUnitName(unit)]);
    return stdout.trimEnd();
  };
  return {
    async exists(unit) {
      const { stdout } = await ask(['systemctl', 'show', '-p', 'LoadState', '--value', fullUnitName(unit)]);
      return stdout.trim() === 'loaded' || stdout.trim() === 'masked';
    },
    active: async (unit) => (await ask(['systemctl', 'is-active', fullUnitName(unit)])).stdout.trim() === 'active',
    async enabled(unit) {
      const state = (await ask(['systemctl', 'is-enabled', fullUnitName(unit)])).stdout.trim();
      return state === 'enabled' || state === 'enabled-runtime' || state === 'alias';
    },
    lastLog,
    async change(unit, change, signal) {
      const argv = change === 'daemon-reload' ? ['systemctl', 'daemon-reload'] : ['systemctl', change, fullUnitName(unit)];
      try {
        await run({ argv, timeoutMs: 180_000 }, signal);
      } catch (error) {
        if (!(error instanceof CommandError) || signal.aborted || (change !== 'start' && change !== 'restart')) throw error;
        const log = await lastLog(unit, 20).catch(() => '');
        throw new CommandError(error.argv, error.code, [error.output, log].filter((text) => text !== '').join('\n'));
      }
    },
    resume: async () => undefined,
    close: () => undefined,
  };
}
