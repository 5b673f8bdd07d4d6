import { type ChildProcess, spawn } from 'node:child_process';
import { StringDecoder } from 'node:string_decoder';
import { type Command, CommandError, type CommandResult } from './machine.ts';

const LAST_LINES = 20;
const LONGEST_LINE = 8_192;
const MOST_OUTPUT = 16 * 1024 * 1024;
/** Proxies are the machine's way out; everything else of the agent's own environment stays with the agent. */
const PASSED_ON = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy'];

export type CommandOptions = {
  path: string;
  /** Milliseconds between SIGTERM and SIGKILL to the group; 2,000. */
  graceMs?: number;
};

/**
 * Runs a command without a shell, in a process group of its own. `output` gets both streams line by line. Rejects with CommandError when it cannot be started, ends with a code
 * that is not allowed, runs out of time (the group is killed), or when `signal` aborts (likewise).
 */
export async function runCommand(
  command: Command,
  output: (line: string) => void,
  signal: AbortSignal,
  options: CommandOptions,
): Promise<CommandResult> {
  const [program, ...args] = command.argv;
  const shown = command.secret ? [program ?? '', '(arguments hidden)'] : command.argv;
  if (program === undefined) throw new CommandError([''], undefined, '', 'no command');
  if (signal.aborted) throw new CommandError(shown, undefined, '', 'not started: the agent is stopping');
  const child = spawn(program, args, {
    detached: true,
    cwd: '/',
    stdio: [command.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: environment(options.path, command.env),
  });
  const last: string[] = [];
  const take = (line: string) => {
    if (command.secret) return;
    if (line.trim() !== '') last.push(line);
    if (last.length > LAST_LINES) last.shift();
    output(line);
  };
  const collect = { stdout: collector(child.stdout, take), stderr: collector(child.stderr, take) };
  child.stdin?.on('error', () => undefined); // It need not read what it is given.
  child.stdin?.end(command.input);

  let ended: string | undefined;
  const end = (why: string) => {
    if (ended !== undefined) return;
    ended = why;
    killGroup(child, 'SIGTERM');
    killing = setTimeout(() => killGroup(child, 'SIGKILL'), options.graceMs ?? 2_000);
  };
  let killing: NodeJS.Timeout | undefined;
  const timer = setTimeout(() => end(`not finished after ${command.timeoutMs / 1000} s, and therefore ended`), command.timeoutMs);
  const abort = () => end('ended: the agent is stopping');
  signal.addEventListener('abort', abort);
  try {
    const { code, killed, failure } = await exited(child);
    const failed = ended ?? failure ?? (killed && `ended by ${killed}`);
    // What outlives its leader (and holds no stream that anybody reads) would go on changing the machine.
    if (ended !== undefined) killGroup(child, 'SIGKILL');
    collect.stdout.end();
    collect.stderr.end();
    const text = last.join('\n');
    if (failed) throw new CommandError(shown, undefined, text, failed);
    if (!(command.allowExit ?? [0]).includes(code)) throw new CommandError(shown, code, text);
    const overflow = [collect.stdout, collect.stderr].some((stream) => stream.overflowed());
    if (overflow) throw new CommandError(shown, code, text, `more than ${MOST_OUTPUT >> 20} MiB of output`);
    return { code, stdout: collect.stdout.text(), stderr: collect.stderr.text() };
  } finally {
    clearTimeout(timer);
    clearTimeout(killing);
    signal.removeEventListener('abort', abort);
  }
}

export function environment(path: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const passed = PASSED_ON.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    PATH: path,
    HOME: '/root',
    LANG: 'C.UTF-8',
    DEBIAN_FRONTEND: 'noninteractive',
    ...Object.fromEntries(passed),
    ...more,
  };
}

export function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // None of the group is left.
  }
}

type Exit = { code: number; killed?: NodeJS.Signals; failure?: string };

/** Resolves when the process has ended and its streams are read, or a second later: what it left in the background may hold them open. */
function exited(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    let late: NodeJS.Timeout | undefined;
    child.once('error', (error) => resolve({ code: 127, failure: `cannot be started: ${error.message}` }));
    const done = (code: number | null, killed: NodeJS.Signals | null) => {
      clearTimeout(late);
      resolve({ code: code ?? -1, ...(killed && { killed }) });
    };
    child.once('exit', (code, killed) => {
      late = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
        done(code, killed);
      }, 1_000);
    });
    child.once('close', done);
  });
}

function collector(stream: NodeJS.ReadableStream | null, take: (line: string) => void) {
  const decoder = new StringDecoder('utf8');
  const pieces: string[] = [];
  let size = 0;
  let open = '';
  const lines = (text: string) => {
    const parts = (open + text).split(/\r?\n|\r/);
    open = parts.pop() ?? '';
    for (const line of parts) take(line.slice(0, LONGEST_LINE));
    if (open.length > LONGEST_LINE) {
      take(open.slice(0, LONGEST_LINE));
      open = '';
    }
  };
  stream?.on('data', (chunk: Buffer) => {
    const text = decoder.write(chunk);
    size += chunk.length;
    if (size <= MOST_OUTPUT) pieces.push(text);
    lines(text);
  });
  return {
    end: () => {
      if (open !== '') take(open);
      open = '';
    },
    text: () => pieces.join(''),
    overflowed: () => size > MOST_OUTPUT,
  };
}
