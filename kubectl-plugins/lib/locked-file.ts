import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, realpathSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { EXIT, ExitError } from './exit.ts';
import { pause } from './pause.ts';

/** How long another kubectl may hold the lock; it holds it for milliseconds. */
const PATIENCE_MS = 10_000;

/**
 * Runs `work` while `<path>.lock` is ours, which is how kubectl locks a kubeconfig. Throws an ExitError when somebody else keeps it.
 * https://github.com/kubernetes/client-go/blob/master/tools/clientcmd/loader.go (lockFile)
 */
export async function withFileLock<T>(path: string, signal: AbortSignal, work: () => T): Promise<T> {
  const lock = `${path}.lock`;
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  const giveUpAt = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      closeSync(openSync(lock, 'wx', 0));
      break;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      if (performance.now() > giveUpAt)
        throw new ExitError(EXIT.error, `${lock} is there: another kubectl is writing, or left it behind; then remove it`);
    }
    await pause(50, signal);
  }
  try {
    return work();
  } finally {
    rmSync(lock, { force: true });
  }
}

/** Writes a file so that a reader sees all of the old or all of the new content. A link stays a link, the mode stays; a new file gets 0600. */
export function writeAtomically(path: string, text: string): void {
  const target = existsSync(path) ? realpathSync(path) : path;
  const mode = existsSync(target) ? statSync(target).mode & 0o777 : 0o600;
  const fresh = `${target}.${randomBytes(6).toString('hex')}.new`;
  try {
    const file = openSync(fresh, 'wx', mode);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(fresh, target);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
}
