import { createHash } from 'node:crypto';
import type { MachineView } from '../machine/machine.ts';
import type { WrittenFile } from '../operations/request.ts';
import { type Action, type Step, type StepContext, StepError } from '../operations/step.ts';
import { type Drift, findDrift } from '../reconcilers/find-drift.ts';

const COMMAND_MS = 30_000;
const UNIT_FILE = /^\/(etc|usr\/lib|lib)\/systemd\/system\//;

/** The most paths that a message names. */
const NAMED = 10;
const NEXT = 'patch the cluster, or delete and create it anew';

/**
 * Puts files and sysctls back that are no longer as operations wrote them, all that can be, and fails when some cannot, naming them. Small files that hold no secret are written anew from
 * what was kept of them, those from the artifacts are fetched again; the content of the others comes from the steps that wrote it (`install`, asked anew), and counts only when it is what
 * was written then. Services are not restarted: what runs has read its files before they were changed, or somebody wants to see what they do.
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
        if (actions.length === 0) throw new StepError(`these cannot be put back: ${named(drift)}`, NEXT);
        return actions;
      },
      async verify({ machine, signal }) {
        const left = await look(machine, signal);
        const sysctl = left.find(({ wanted }) => wanted !== undefined);
        if (sysctl) throw new StepError(`the sysctl ${sysctl.path} did not take the value ${sysctl.wanted}`);
        if (left.length > 0) throw new StepError(`these could not be put back: ${named(left)}`, NEXT);
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
  const wrong = new Map(written.filter((file) => drift.some(({ path }) => path === file.path)).map((file) => [file.path, file]));
  const found = new Map<string, Action>();
  for (const { path, mode, content, artifact } of wrong.values()) {
    if (content !== undefined) found.set(path, { kind: 'write', path, content, mode });
    else if (artifact !== undefined) found.set(path, { kind: 'fetch', path, artifact, mode });
  }
  const asked = [...wrong.keys()].some((path) => !found.has(path)) ? install : [];
  for (const step of asked) {
    // A step may say that it is not for this machine; what the others wrote can be put back all the same.
    const actions = await step.run(context).catch(() => []);
    for (const action of actions) {
      if (action.kind !== 'write' && action.kind !== 'fetch') continue;
      const file = found.has(action.path) ? undefined : wrong.get(action.path);
      if (file && (action.kind === 'fetch' || digestOf(action.content) === file.digest)) found.set(action.path, action);
    }
  }
  const all = [...found.values()];
  const actions = all.filter(({ kind }) => kind === 'write');
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
  // Last: an artifact that the source does not have any more keeps nothing else from being put back.
  return [...actions, ...all.filter(({ kind }) => kind === 'fetch')];
}

function named(drift: readonly Drift[]): string {
  const names = drift.slice(0, NAMED).map(({ path }) => path);
  return `${names.join(', ')}${drift.length > NAMED ? ` and ${drift.length - NAMED} more` : ''}`;
}

const digestOf = (content: string) => createHash('sha256').update(content).digest('hex');
