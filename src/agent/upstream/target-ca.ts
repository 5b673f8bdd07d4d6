import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { FlagError } from '../../kube/flags.ts';

/**
 * The CAs (PEM) of --target-ca-file, read now, and again when the file has changed; '' is no file. A change that is no good leaves what was there, and is told to `onError` once.
 * Throws FlagError when the file cannot be used at the start.
 */
export function targetCAFile(path: string, onError: (error: unknown) => void): () => string | undefined {
  if (path === '') return () => undefined;
  let current = read(path);
  let told = '';
  return () => {
    try {
      current = read(path, current);
      told = '';
    } catch (error) {
      const { message } = error as Error;
      if (message !== told) onError(error);
      told = message;
    }
    return current.text;
  };
}

type Content = { text: string; stamp: string };

/** The content, which is `last` when the file has not changed since. */
function read(path: string, last?: Content): Content {
  try {
    // A mounted ConfigMap is replaced by a link to another file.
    const { ino, mtimeMs, size } = statSync(path);
    const stamp = `${ino} ${mtimeMs} ${size}`;
    if (stamp === last?.stamp) return last;
    const text = readFileSync(path, 'utf8');
    try {
      new X509Certificate(text);
    } catch {
      // TLS would pass over it in silence.
      throw new Error('it does not begin with a certificate in PEM');
    }
    return { text, stamp };
  } catch (error) {
    throw new FlagError(`--target-ca-file ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
