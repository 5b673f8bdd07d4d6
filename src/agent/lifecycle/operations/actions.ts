import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { temporaryName } from '../machine/files.ts';
import { MARK } from '../machine/leftovers.ts';
import type { Execution } from './execution.ts';
import { secretValues } from './redact.ts';
import type { WrittenFile } from './request.ts';
import { type Action, StepError } from './step.ts';

/** The largest text that is kept with the baseline. */
const MOST_KEPT = 64 * 1024;
const READABLE_BY_ALL = 0o004;

/** Does one action, with a record of its begin and its end in the journal. `undo`: while undoing, when the journal is waited for. */
export async function perform(execution: Execution, step: string, index: number, action: Action, undo: boolean): Promise<void> {
  const record = undo ? execution.persist : execution.record;
  const what = execution.redact(describe(action));
  const about = { kind: 'action', step, undo, index, what, command: action.kind === 'command' } as const;
  await record({ ...about, edge: 'begin' });
  execution.say(step, what);
  await act(execution, step, action, record);
  await record({ ...about, edge: 'end' });
}

async function act(execution: Execution, step: string, action: Action, record: Execution['record']): Promise<void> {
  const { machine, signal } = execution;
  const written = async (file: WrittenFile) => {
    if (!file.path.startsWith(`${execution.folder}/`)) await record({ kind: 'written', file });
  };
  if (action.kind === 'command') {
    execution.hide(secretValues(action.command.env));
    const command = { ...action.command, env: { ...action.command.env, [MARK]: execution.journal.state.id } };
    await machine.run(command, (line) => execution.say(step, line), signal);
  } else if (action.kind === 'write') {
    const { path, content, mode } = action;
    await machine.write(path, content, mode);
    const digest = createHash('sha256').update(content).digest('hex');
    await written({ path, digest, mode, ...(mayBeKept(execution, action) && { content }) });
  } else if (action.kind === 'fetch') {
    const { path, artifact, mode } = action;
    await written({ path, digest: await fetched(execution, action), mode, artifact });
  } else if (action.kind === 'remove') {
    await machine.remove(action.path);
    await record({ kind: 'removed', path: action.path });
  } else if (action.kind === 'service') await machine.changeService(action.unit, action.change, signal);
  else if (action.kind === 'wait') await waitUntil(execution, step, action);
}

/** Whether the text of a file may stand in the journal and in the baseline: it is small, and no secret. */
function mayBeKept({ redact }: Execution, { content, mode, secret }: Extract<Action, { kind: 'write' }>): boolean {
  return !secret && (mode & READABLE_BY_ALL) !== 0 && content.length <= MOST_KEPT && redact(content) === content;
}

/** Puts an artifact in its place and resolves with its SHA-256. */
async function fetched({ machine, artifacts, folder, signal }: Execution, action: Extract<Action, { kind: 'fetch' }>): Promise<string> {
  const { path, artifact, mode } = action;
  // What an operation needs for itself only is fetched anew when the operation is taken up again.
  if (path.startsWith(`${folder}/`)) return await artifacts.fetch(artifact, path, mode, signal);
  const stage = join(folder, 'stage');
  const temporary = temporaryName(path);
  try {
    const digest = await artifacts.fetch(artifact, stage, mode, signal);
    await machine.copy(stage, temporary);
    await machine.rename(temporary, path);
    return digest;
  } catch (error) {
    await machine.remove(temporary).catch(() => undefined);
    throw error;
  } finally {
    await machine.remove(stage);
  }
}

async function waitUntil(execution: Execution, step: string, action: Extract<Action, { kind: 'wait' }>): Promise<void> {
  const { machine, signal, pollMs } = execution;
  const over = AbortSignal.any([signal, AbortSignal.timeout(action.timeoutMs)]);
  let last = '';
  for (;;) {
    const found = await action.until(machine, over).then(
      (so) => (so ? undefined : ''),
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    if (found === undefined) return;
    if (found !== '' && found !== last) execution.say(step, found);
    if (found !== '' && !over.aborted) last = found;
    if (!over.aborted) await wait(pollMs, undefined, { signal: over }).catch(() => undefined);
    if (signal.aborted) throw new StepError('the agent is stopping');
    if (over.aborted) throw new StepError(`${action.text}: not so within ${action.timeoutMs / 1000} s${last === '' ? '' : `: ${last}`}`);
  }
}

/** One line for log and journal, without contents. */
export function describe(action: Action): string {
  if (action.kind === 'command') return commandText(action.command);
  if (action.kind === 'write') return `write ${action.path}`;
  if (action.kind === 'fetch') return `fetch ${action.artifact} to ${action.path}`;
  if (action.kind === 'remove') return `remove ${action.path}`;
  if (action.kind === 'claim') return `save ${action.paths.join(', ')}`;
  if (action.kind === 'service') return `${action.change} ${action.unit}`;
  return `wait: ${action.text}`;
}

/** As it is typed in a shell; of a secret command only the program. */
export function commandText(command: { argv: readonly string[]; secret?: boolean }): string {
  if (command.secret) return `${command.argv[0] ?? ''} (arguments hidden)`;
  return command.argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}
