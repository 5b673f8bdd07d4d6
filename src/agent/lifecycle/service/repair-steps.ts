import { createHash } from 'node:crypto';
import type { MachineView } from '../machine/machine.ts';
import type { WrittenFile } from '../operations/request.ts';
import { type Action, type Step, type StepContext, StepError } from '../operations/step.ts';
import { type Drift, findDrift } from '../reconcilers/find-drift.ts';

const COMMAND_MS = 30_000;
const UNIT_FILE = /^\/(etc|usr\/lib|lib)\/systemd\/system\//;

/**
 * Puts files and sysctls back that are no longer as operations wrote them. The content comes from the steps that wrote it (`install`, asked anew), and counts only when it is what was
 * written then; what cannot be made again so is left as it is, and remains in the status. Services are not restarted: what runs has read its files before they were changed, or
 * somebody wants to see what they do.
 */
export function repairSteps(install: readonly Step[], written: () => Promise<WrittenFile[]>): Step[] {
  const look = async (machine: MachineView, signal: AbortSignal) => await findDrift(machine, await written(), { thorough: true, signal });
  return [
    {
      name: 'repair-files',
      check: async ({ machine, signal }) => (await look(machine, signal)).length === 0,
      async run(context) {
        const drift = await look(context.machine, context.signal);
        const actions = await repairs(context, drift, install, await written());
        if (actions.length === 0) {
          throw new StepError(
            `these cannot be put back: ${drift.map(({ path }) => path).join(', ')}`,
            'patch the cluster, or delete and create it anew',
          );
        }
        return actions;
      },
      async verify({ machine, signal }) {
        const wrong = (await look(machine, signal)).find(({ wanted }) => wanted !== undefined);
        if (wrong) throw new StepError(`the sysctl ${wrong.path} did not take the value ${wrong.wanted}`);
      },
      undo: async () => [],
    },
  ];
}

async function repairs(
  context: StepContext,
  drift: readonly Drift[],
  install: readonly Step[],
  written: readonly WrittenFile[],
): Promise<Action[]> {
  const wrong = new Set(drift.map(({ path }) => path));
  const digests = new Map(written.map(({ path, digest }) => [path, digest]));
  const found = new Map<string, Action>();
  for (const step of install) {
    // A step may say that it is not for this machine; what the others wrote can be put back all the same.
    const actions = await step.run(context).catch(() => []);
    for (const action of actions) {
      if (action.kind === 'write' && wrong.has(action.path) && digestOf(action.content) === digests.get(action.path))
        found.set(action.path, action);
      if (action.kind === 'fetch' && wrong.has(action.path)) found.set(action.path, action);
    }
  }
  const actions = [...found.values()];
  for (const { path, wanted } of drift) {
    if (wanted !== undefined)
      actions.push({ kind: 'command', command: { argv: ['sysctl', '-w', `${path}=${wanted}`], timeoutMs: COMMAND_MS } });
  }
  // The settings of a file that is put back may have changed with it.
  for (const path of found.keys()) {
    if (path.startsWith('/etc/sysctl.d/'))
      actions.push({ kind: 'command', command: { argv: ['sysctl', '-e', '-p', path], timeoutMs: COMMAND_MS } });
  }
  if ([...found.keys()].some((path) => UNIT_FILE.test(path))) actions.push({ kind: 'service', unit: '', change: 'daemon-reload' });
  return actions;
}

const digestOf = (content: string) => createHash('sha256').update(content).digest('hex');
