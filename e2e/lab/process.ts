import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { undoAtExit } from './leftovers.ts';

export type LabProcess = {
  name: string;
  pid: number;
  /** Path of the file that has its stdout and stderr. */
  log: string;
  /** Resolves when the process has ended, whatever the reason. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  running(): boolean;
  /** Sends `signal`, and SIGKILL when the process still runs after `grace` milliseconds (default 10,000). Idempotent. */
  stop(signal?: NodeJS.Signals, grace?: number): Promise<void>;
};

export type ProcessOptions = {
  name: string;
  command: string;
  args: readonly string[];
  log: string;
  env?: Record<string, string>;
  cwd?: string;
};

const setpriv = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => existsSync(path));

/** The command that runs `command` so that the kernel sends it `signal` when we die, even by SIGKILL. The pid is that of `command`. */
export function dyingWithUs(command: string, args: readonly string[], signal = 'KILL'): [string, string[]] {
  return setpriv ? [setpriv, ['--pdeathsig', signal, '--', command, ...args]] : [command, [...args]];
}

/** Starts a process in a session of its own: a Ctrl-C in the terminal reaches only us, so that we can stop things in order. */
export async function startProcess(options: ProcessOptions): Promise<LabProcess> {
  const { name, log, cwd } = options;
  const [command, args] = dyingWithUs(options.command, options.args);
  const out = openSync(log, 'a', 0o600);
  let child: ChildProcess;
  try {
    child = spawn(command, args, {
      detached: true,
      stdio: ['ignore', out, out],
      env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...options.env },
      ...(cwd === undefined ? {} : { cwd }),
    });
  } finally {
    closeSync(out);
  }
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: 127, signal: null }));
  });
  const pid = await new Promise<number>((resolve, reject) => {
    child.once('spawn', () => (child.pid === undefined ? reject(new Error(`${name} has no pid`)) : resolve(child.pid)));
    child.once('error', (error) => reject(new Error(`cannot start ${name} (${options.command}): ${error.message}`)));
  });
  const running = () => child.exitCode === null && child.signalCode === null;
  const forget = undoAtExit(() => {
    if (running()) child.kill('SIGKILL');
  });
  exited.then(forget, forget);
  return {
    name,
    pid,
    log,
    exited,
    running,
    async stop(signal = 'SIGTERM', grace = 10_000) {
      if (!running()) return;
      child.kill(signal);
      const timer = setTimeout(() => child.kill('SIGKILL'), grace);
      await exited;
      clearTimeout(timer);
    },
  };
}

/** Waits for `ready`. When that rejects or the process ends first, the process is ended; the rejection has the last lines of its log. */
export async function readyOrEnded<T>(proc: LabProcess, ready: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const ended = proc.exited.then(({ code, signal }) => {
    throw new Error(`${proc.name} ended (${signal ?? `exit code ${code}`}) before it was ready`);
  });
  const attempt = ready(controller.signal);
  try {
    return await Promise.race([attempt, ended]);
  } catch (error) {
    await proc.stop('SIGKILL');
    const tail = readFileSync(proc.log, 'utf8').trimEnd().split('\n').slice(-30).join('\n');
    throw new Error(`${error instanceof Error ? error.message : String(error)}; the end of its log:\n${tail}`, { cause: error });
  } finally {
    controller.abort(new Error(`${proc.name} is no longer waited for`));
    attempt.catch(() => undefined);
    ended.catch(() => undefined);
  }
}
