import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from './commands.ts';
import { readFacts } from './facts.ts';
import { machineFiles, placedBelow } from './files.ts';
import type { Command, Machine } from './machine.ts';
import type { Services } from './services.ts';
import { supervisor } from './supervisor.ts';
import { systemdServices } from './systemd.ts';
import { unitFolder } from './unit-folder.ts';

export const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export type LocalMachineOptions = {
  /** Put before paths of files and units, but not before arguments of commands; `/` by default. Paths that begin with it already stay as they are. */
  root?: string;
  /** Where programs are looked for; the system's folders by default. */
  path?: string;
  /** Who keeps units running; by default systemd where it is PID 1's, else the agent. */
  init?: 'systemd' | 'own';
  onError?: (error: unknown) => void;
};

export type LocalMachine = Machine & {
  /** Takes up, or starts, the units that the own supervisor keeps. */
  resumeServices(): Promise<void>;
  /** Stops watching them; they go on running. */
  close(): void;
};

/** The machine that the agent runs on. */
export async function localMachine(options: LocalMachineOptions = {}): Promise<LocalMachine> {
  const { root = '/', path = SYSTEM_PATH, onError = () => undefined } = options;
  const files = machineFiles(root);
  const at = placedBelow(root);
  const quiet = () => undefined;
  const run = (command: Command, signal: AbortSignal) => runCommand(command, quiet, signal, { path });
  const init = options.init ?? ((await files.stat('/run/systemd/system')) ? 'systemd' : 'own');
  const services: Services =
    init === 'systemd'
      ? systemdServices(run)
      : supervisor({
          units: unitFolder(at),
          keepDir: at('/var/lib/fairlead-agent/units'),
          runDir: at('/run/fairlead-agent/units'),
          logDir: at('/var/log/fairlead-agent'),
          path,
          run,
          onError,
        });
  async function which(program: string): Promise<string | undefined> {
    for (const folder of path.split(':')) {
      const found = await access(join(folder, program), constants.X_OK).then(
        () => join(folder, program),
        () => undefined,
      );
      if (found !== undefined) return found;
    }
    return undefined;
  }
  return {
    ...files,
    which,
    inspect: (command) => run(command, new AbortController().signal),
    run: (command, output, signal) => runCommand(command, output, signal, { path }),
    services,
    changeService: (unit, change, signal) => services.change(unit, change, signal),
    facts: async () => ({ ...(await readFacts({ ...files, which })), initSystem: init === 'systemd' ? 'systemd' : 'none' }),
    resumeServices: () => services.resume(),
    close: () => services.close(),
  };
}
