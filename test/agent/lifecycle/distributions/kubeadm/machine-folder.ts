import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { localMachine } from '../../../../../src/agent/lifecycle/machine/local-machine.ts';
import type { Command, Facts, Machine } from '../../../../../src/agent/lifecycle/machine/machine.ts';
import type { Action, Step, StepContext } from '../../../../../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { FACTS } from './facts.ts';

/** A machine in a folder, with little programs in the place of the ones that would change this computer. Their calls are written down. */
export type MachineFolder = {
  root: string;
  machine: Machine;
  write(path: string, content: string, mode?: number): Promise<void>;
  /** A shell script; ROOT is the folder. */
  program(name: string, script: string): Promise<void>;
  context(spec: ClusterSpec, more?: Partial<StepContext>): StepContext;
  /** Calls of programs since the last question, `NAME ARGUMENTS`. */
  calls(): Promise<string[]>;
  /** Does a step's actions as the engine would; a `wait` must be so at once. */
  perform(actions: readonly Action[]): Promise<void>;
  /** check, run, verify: resolves with the actions. */
  take(step: Step, context: StepContext): Promise<Action[]>;
};

/** In memory where there is such a file system: thousands of fsyncs. */
const BASE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const QUIET = new AbortController().signal;

export async function machineFolder(
  clean: { after(undo: () => unknown): void },
  facts: Partial<Facts> = {},
  artifacts: Record<string, string> = {},
): Promise<MachineFolder> {
  const root = await mkdtemp(join(BASE, 'fairlead-kubeadm-'));
  clean.after(() => rm(root, { recursive: true, force: true }));
  const bin = join(root, 'bin');
  const log = join(root, 'calls');
  const put = async (path: string, content: string, mode = 0o644) => {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    await chmod(path, mode);
  };
  const program = (name: string, script: string) =>
    put(join(bin, name), `#!/bin/sh\nPATH=/usr/bin:/bin\nROOT=${root}\necho "${name} $*" >> ${log}\n${script}\n`, 0o755);
  await put(log, '');
  // Units are files below run/units: active and enabled.
  await program(
    'systemctl',
    `cd $ROOT; mkdir -p run/active run/enabled; for unit; do :; done; unit=\${unit%.service}
case "$1" in
start|restart) touch run/active/$unit;; stop) rm -f run/active/$unit;;
enable) touch run/enabled/$unit;; disable) rm -f run/enabled/$unit;;
is-active) [ -e run/active/$unit ] && echo active || { echo inactive; exit 3; };;
is-enabled) [ -e run/enabled/$unit ] && echo enabled || { echo disabled; exit 1; };;
show) if [ -e etc/systemd/system/$unit.service ] || [ -e run/enabled/$unit ]; then echo loaded; else echo not-found; fi;;
esac`,
  );
  await program(
    'sysctl',
    'for pair; do case "$pair" in *=*) echo "$pair" | cut -d= -f2- > $ROOT/proc/sys/$(echo "$pair" | cut -d= -f1 | tr . /);; esac; done',
  );
  const machine = await localMachine({ root, path: `${bin}:/nowhere`, init: 'systemd' });
  const folder = join(root, 'operation');
  const box: MachineFolder = {
    root,
    machine,
    write: (path, content, mode) => put(join(root, path), content, mode),
    program,
    context: (spec, more = {}) => ({
      machine,
      facts: { ...FACTS, ...facts },
      spec,
      before: undefined,
      folder,
      artifacts: async (prefix) =>
        Object.keys(artifacts)
          .filter((path) => path.startsWith(prefix))
          .sort(),
      signal: QUIET,
      ...more,
    }),
    async calls() {
      const text = (await machine.read('/calls')) ?? '';
      await put(log, '');
      return text.split('\n').filter((line) => line !== '');
    },
    async perform(actions) {
      for (const action of actions) {
        if (action.kind === 'command') await machine.run(inside(action.command, root), () => undefined, QUIET);
        else if (action.kind === 'write') await machine.write(action.path, action.content, action.mode);
        else if (action.kind === 'fetch') {
          const content = artifacts[action.artifact];
          if (content === undefined) throw new Error(`there is no artifact ${action.artifact}`);
          await machine.write(action.path, content, action.mode);
        } else if (action.kind === 'remove') await machine.remove(action.path);
        else if (action.kind === 'service') await machine.changeService(action.unit, action.change, QUIET);
        else if (action.kind === 'wait' && !(await action.until(machine, AbortSignal.timeout(action.timeoutMs))))
          throw new Error(`not so: ${action.text}`);
      }
    },
    async take(step, context) {
      if (await step.check(context)) throw new Error(`${step.name} says that it is so already`);
      const actions = await step.run(context);
      await box.perform(actions);
      await step.verify(context);
      return actions;
    },
  };
  return box;
}

/** Programs that were fetched are run where they were put. */
const inside = (command: Command, root: string): Command => {
  const [name = '', ...rest] = command.argv;
  return name.startsWith('/') && !name.startsWith(root) ? { ...command, argv: [join(root, name), ...rest] } : command;
};

export const digest = (text: string) => createHash('sha256').update(text).digest('hex');
/** Commands among actions, as they are typed. */
export const commands = (actions: readonly Action[]) =>
  actions.flatMap((action) => (action.kind === 'command' ? [action.command.argv.join(' ')] : []));
/** Actions in short: kind and what it is about. */
export const brief = (actions: readonly Action[]): string[] =>
  actions.map((action) => {
    if (action.kind === 'command') return action.command.argv.join(' ');
    if (action.kind === 'service') return `${action.change} ${action.unit}`;
    if (action.kind === 'claim') return `claim ${action.paths.join(' ')}`;
    if (action.kind === 'wait') return `wait ${action.text}`;
    return `${action.kind} ${action.path}`;
  });
