import { readFile } from 'node:fs/promises';

/** The bootstrap token of the moment: from the file, read anew each time, or else the one given. Undefined when there is none; a file that is missing is none. */
export function bootstrapToken({ file, token }: { file: string; token: string }): () => Promise<string | undefined> {
  return async () => {
    if (file === '') return token || undefined;
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '';
      throw new Error(`--bootstrap-token-file ${file}: ${error.message}`, { cause: error });
    });
    return text.trim() || token || undefined;
  };
}
