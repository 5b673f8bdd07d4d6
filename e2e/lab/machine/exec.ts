import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { dyingWithUs } from '../process.ts';

export type ExecOptions = {
  /** Standard input; a file is read from this computer. Default: nothing. */
  input?: string | Uint8Array | { file: string };
  /** Added to PATH, HOME and LANG. */
  env?: Record<string, string>;
  /** Milliseconds, default 60,000; then the command is killed and `exec` rejects. */
  timeout?: number;
};

export type ExecResult = { code: number; stdout: string; stderr: string };

const LIMIT = 64 * 1024 * 1024;
const joinQuietly = 'while [ "$1" != -- ]; do echo $$ >"$1" 2>/dev/null; shift; done; shift; exec "$@"';
const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LANG: 'C.UTF-8' };

/** The command that runs `argv` in the namespaces and control groups of a machine whose first process is `leader`. */
export function machineCommand(
  leader: number,
  procs: readonly string[],
  argv: readonly string[],
  env: Record<string, string> = {},
): [string, string[]] {
  const assignments = Object.entries({ ...environment, ...env }).map(([name, value]) => `${name}=${value}`);
  const enter = ['nsenter', '--target', String(leader), '--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--'];
  return ['/bin/sh', ['-c', joinQuietly, 'sh', ...procs, '--', ...enter, '/usr/bin/env', '-i', ...assignments, ...argv]];
}

/**
 * Runs a command in a machine as root. Resolves with whatever exit code it has; rejects when it takes too long, writes more than 64 MiB, or
 * cannot be started. The bytes are read as UTF-8.
 */
export async function execInMachine(
  leader: number,
  procs: readonly string[],
  argv: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult & { bytes: Buffer }> {
  const { input, env, timeout = 60_000 } = options;
  // The inner limit ends the command with what it started; the outer one is for a machine that does nothing any more.
  const limited = ['/usr/bin/timeout', '--kill-after=2', String(timeout / 1000), ...argv];
  const [command, args] = dyingWithUs(...machineCommand(leader, procs, limited, env));
  const file = typeof input === 'object' && 'file' in input ? openSync(input.file, 'r') : undefined;
  const child = spawn(command, args, { stdio: [file ?? (input === undefined ? 'ignore' : 'pipe'), 'pipe', 'pipe'] });
  if (file !== undefined) closeSync(file);
  const timer = setTimeout(() => child.kill('SIGKILL'), timeout + 5_000);
  try {
    return await new Promise((resolve, reject) => {
      const out: Buffer[] = [];
      const err: Buffer[] = [];
      let size = 0;
      const take = (to: Buffer[]) => (chunk: Buffer) => {
        size += chunk.length;
        if (size <= LIMIT) to.push(chunk);
        else child.kill('SIGKILL');
      };
      child.stdout?.on('data', take(out));
      child.stderr?.on('data', take(err));
      child.once('error', reject);
      child.once('close', (code) => {
        const bytes = Buffer.concat(out);
        const stderr = Buffer.concat(err).toString('utf8');
        const what = `${argv[0]} in the machine`;
        if (size > LIMIT) reject(new Error(`${what} wrote more than ${LIMIT} bytes`));
        else if (code === 124) reject(new Error(`${what} took longer than ${timeout} ms; stderr: ${stderr.slice(-2000)}`));
        else resolve({ code: code ?? 137, stdout: bytes.toString('utf8'), stderr, bytes });
      });
      // The command may end without reading all of it.
      child.stdin?.on('error', () => undefined);
      if (child.stdin !== null && input !== undefined && !(typeof input === 'object' && 'file' in input)) child.stdin.end(input);
    });
  } finally {
    clearTimeout(timer);
  }
}
