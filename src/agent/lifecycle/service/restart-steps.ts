import type { Distribution } from '../distributions/distribution.ts';
import { type Step, StepError } from '../operations/step.ts';

const DOWN_MS = 5 * 60_000;
const READY_MS = 15 * 60_000;
const COMMAND_MS = 30_000;

/**
 * Restarts the machine and, when it has a cluster (`distribution`), waits until its node is Ready again. The agent goes down with the machine in the middle of the first step; the next one
 * sees by the boot id that the step is done.
 */
export function restartSteps(distribution: Distribution | undefined): Step[] {
  const reboot: Step = {
    name: 'reboot',
    afterCrash: 'repeat',
    async check({ machine, facts, folder }) {
      const before = await machine.read(`${folder}/boot-id`);
      return before !== undefined && before.trim() !== facts.bootID;
    },
    async run({ facts, folder }) {
      const argv = facts.initSystem === 'systemd' ? ['systemctl', 'reboot'] : ['reboot'];
      return [
        { kind: 'write', path: `${folder}/boot-id`, content: `${facts.bootID}\n`, mode: 0o600 },
        { kind: 'command', command: { argv, timeoutMs: COMMAND_MS } },
        // The machine goes down while this waits; only one that does not is ever seen here.
        {
          kind: 'wait',
          text: 'the machine to go down',
          until: async (machine) => (await machine.facts()).bootID !== facts.bootID,
          timeoutMs: DOWN_MS,
        },
      ];
    },
    async verify({ machine, facts, folder }) {
      const before = (await machine.read(`${folder}/boot-id`))?.trim();
      if (before === undefined || before === facts.bootID)
        throw new StepError('the machine was not restarted: its boot id is the same', 'reboot');
    },
    undo: async () => [],
  };
  if (!distribution) return [reboot];
  const waitReady: Step = {
    name: 'wait-ready',
    afterCrash: 'repeat',
    check: async () => false,
    async run({ spec, facts }) {
      const until: Extract<Awaited<ReturnType<Step['run']>>[number], { kind: 'wait' }>['until'] = async (machine, signal) => {
        const seen = await distribution.observe(machine, spec, signal);
        if (seen.bootID !== undefined && seen.bootID !== facts.bootID) throw new StepError('the node has not reported since the restart');
        if (!seen.nodeReady || !seen.controlPlaneReady) throw new StepError(seen.message || 'the node is not Ready');
        return true;
      };
      return [{ kind: 'wait', text: 'the node to be Ready', until, timeoutMs: READY_MS }];
    },
    verify: async () => undefined,
    undo: async () => [],
  };
  return [reboot, waitReady];
}
