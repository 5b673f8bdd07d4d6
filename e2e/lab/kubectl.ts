import { spawn } from 'node:child_process';

export type CommandResult = { code: number; stdout: string; stderr: string };

export type CommandOptions = {
  /** Default: the lab's admin. */
  kubeconfig?: string;
  env?: Record<string, string>;
  /** Text for stdin; default none (an empty stdin). */
  input?: string;
  cwd?: string;
  /** Milliseconds after which the command is killed and the promise rejects; default 60,000. */
  timeout?: number;
};

/** Runs a program to its end with the given environment; resolves for every exit code, rejects when it cannot start or takes too long. */
export function runCommand(
  command: string,
  args: readonly string[],
  options: { env: Record<string, string>; input?: string; cwd?: string; timeout?: number },
): Promise<CommandResult> {
  const { env, input = '', cwd, timeout = 60_000 } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, [...args], { env, stdio: 'pipe', ...(cwd === undefined ? {} : { cwd }) });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeout);
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(new Error(`cannot run ${command}: ${error.message}`));
    });
    child.once('close', (code) => {
      clearTimeout(timer);
      const result = { code: code ?? 128, stdout: Buffer.concat(stdout).toString('utf8'), stderr: Buffer.concat(stderr).toString('utf8') };
      if (late) reject(new Error(`${command} ${args.join(' ')} took longer than ${timeout} ms; so far: ${result.stdout}${result.stderr}`));
      else resolve(result);
    });
    // A command that does not read its stdin may close it before the text is through.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
