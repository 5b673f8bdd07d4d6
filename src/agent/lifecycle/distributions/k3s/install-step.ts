import { type Step, StepError } from '../../operations/step.ts';
import { step, tryRun } from '../common/run.ts';
import { BINARY, INSTALLED } from './paths.ts';
import { stopIfThere } from './running.ts';
import { installerActions, type K3sOptions } from './source.ts';

const UNINSTALL = 'k3s-uninstall.sh';
const UNINSTALL_MS = 5 * 60_000;

/**
 * Binary, unit and scripts of `version`, by the official installer; nothing is started. Undo of a first installation (`first`) runs k3s's own uninstaller, which stops everything that
 * runs in pods; undo of an upgrade only stops k3s, and the files come back by themselves.
 */
export function installStep(version: string, options: K3sOptions, first: boolean): Step {
  return step({
    name: 'k3s-install',
    run: async (context) => [{ kind: 'claim', paths: [BINARY, ...INSTALLED] }, ...(await installerActions(context, version, options))],
    verify: async ({ machine }) => {
      const said = (await machine.inspect({ argv: ['k3s', '--version'], timeoutMs: 60_000 })).stdout;
      if (!said.split(/\s+/).includes(version)) throw new StepError(`the installed k3s is not ${version}: ${said.split('\n')[0] ?? ''}`);
    },
    undo: async (context) => {
      const { machine } = context;
      if (!first) return stopIfThere(context);
      const stop = await stopIfThere(context);
      return (await machine.which(UNINSTALL)) ? [...stop, tryRun([UNINSTALL], UNINSTALL_MS)] : stop;
    },
  });
}
