import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { SealingKeys } from '../../tunnel/seal.ts';
import type { Credential, Store } from './store.ts';

/**
 * The state of an agent on a machine without a cluster: `credential.json` and `key.json` in a folder, readable by their owner only, each replaced as a whole.
 */
export function fileStore(folder: string): Store {
  const credentialFile = join(folder, 'credential.json');
  const keyFile = join(folder, 'key.json');

  async function read(file: string): Promise<Record<string, unknown> | undefined> {
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (text === undefined) return undefined;
    try {
      const parsed: unknown = JSON.parse(text);
      if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
    } catch {
      // Not JSON: said below, without what it holds.
    }
    throw new Error(`${file} is not what the agent wrote: remove it to register anew`);
  }

  /** Writes beside `file`, through to the disk, and then calls `take` to put it in place. */
  async function place(file: string, content: object, take: (temporary: string) => Promise<void>): Promise<void> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const temporary = `${file}.${randomBytes(6).toString('hex')}`;
    try {
      const handle = await open(temporary, 'wx', 0o600);
      try {
        await handle.writeFile(`${JSON.stringify(content)}\n`);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await take(temporary);
    } finally {
      await unlink(temporary).catch(() => undefined);
    }
    // The name must survive a power cut too.
    const directory = await open(folder, 'r');
    await directory.sync().finally(() => directory.close());
  }

  async function keys(): Promise<SealingKeys | undefined> {
    const found = await read(keyFile);
    const { publicKey, privateKey } = found ?? {};
    return typeof publicKey === 'string' && typeof privateKey === 'string' ? { publicKey, privateKey } : undefined;
  }

  return {
    place: credentialFile,
    async credential() {
      const found = await read(credentialFile);
      return found && isCredential(found) ? found : undefined;
    },
    async saveCredential(credential) {
      await place(credentialFile, credential, (temporary) => rename(temporary, credentialFile));
    },
    keys,
    async saveKeys(given) {
      // A link, unlike a rename, does not replace what another process has put there.
      await place(keyFile, given, (temporary) => link(temporary, keyFile)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
      const present = await keys();
      if (!present) throw new Error(`${keyFile} holds no key pair: remove it, so that the agent makes a new one`);
      return present;
    },
  };
}

function isCredential(found: Record<string, unknown>): found is Credential {
  const texts = ['clusterId', 'parentURL', 'token', 'ca', 'namespace', 'managedCluster'];
  return (
    texts.every((name) => typeof found[name] === 'string') &&
    typeof found['obtainedAt'] === 'number' &&
    (found['expiresAt'] === undefined || typeof found['expiresAt'] === 'number')
  );
}
