import { readFile } from 'node:fs/promises';
import type { Account, Environment } from './definition.ts';

/** A cloud key. Lives in memory only for the call it signs. */
export type Key = { id: string; secret: string; token: string | undefined };

/**
 * The key of an account whose credentials are files or named environment variables; undefined for the other kinds. Files are read anew at each
 * call, so a rotated Secret counts at once. Throws an Error that names the file or the variable, never a value.
 */
export async function configuredKey(account: Account, environment: Environment): Promise<Key | undefined> {
  const { files, env } = account.credentials;
  if (files) {
    const [id, secret, token] = await Promise.all([
      readSecret(files.id),
      readSecret(files.secret),
      files.token === undefined ? undefined : readSecret(files.token),
    ]);
    return { id, secret, token };
  }
  if (env) {
    const variable = (name: string) => {
      const value = environment[name];
      if (!value) throw new Error(`environment variable ${name} is not set`);
      return value;
    };
    return { id: variable(env.id), secret: variable(env.secret), token: env.token === undefined ? undefined : variable(env.token) };
  }
  return undefined;
}

async function readSecret(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Error(`file ${path} cannot be read (${error.code ?? error.name})`);
  });
  const value = text.trim();
  if (!value) throw new Error(`file ${path} is empty`);
  return value;
}
