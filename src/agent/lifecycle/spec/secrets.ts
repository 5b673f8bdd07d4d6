import { randomUUID } from 'node:crypto';
import { readdir, readFile, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ClusterSpec } from '../../../kube/lifecycle.ts';
import { writeDurably } from '../state/durable.ts';

/** What stands in a spec in the place of a password: the file that has it. A password that a caller gives is always put into a file first, so none can pass for a reference. */
const REFERENCE = /^file:(\/.*\/registry-[0-9a-f-]{36})$/;

/** The registry's password of a spec as operations have it; undefined when there is none. Rejects when its file cannot be read. */
export async function registryPassword(spec: ClusterSpec): Promise<string | undefined> {
  const password = spec.clusterRuntime?.clusterCri?.registryAuth?.password;
  const file = password === undefined ? undefined : REFERENCE.exec(password)?.[1];
  return file === undefined ? password : await readFile(file, 'utf8');
}

/** Passwords in files of their own, mode 0600. */
export type SecretFiles = {
  /**
   * The spec with a reference in the place of the password. The file is durable when it resolves. A password that is the reference of `before`, or says the same as that, is kept; without a
   * password the spec comes back as it is.
   */
  take(spec: ClusterSpec, before: ClusterSpec | undefined): Promise<ClusterSpec>;
  /** Removes the files that none of the specs refers to. */
  keepOnly(specs: readonly (ClusterSpec | undefined)[]): Promise<void>;
  /** Every password that is kept, so that it can be blanked in what others say. */
  values(): Promise<string[]>;
};

export function secretFiles(folder: string): SecretFiles {
  const names = async () =>
    (
      await readdir(folder).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return [];
        throw error;
      })
    ).filter((name) => name.startsWith('registry-'));
  return {
    async take(spec, before) {
      const password = passwordOf(spec);
      const kept = before && passwordOf(before);
      if (password === undefined || password === '' || password === kept) return spec;
      if (before && kept !== undefined && (await registryPassword(before).catch(() => undefined)) === password)
        return withPassword(spec, kept);
      const path = join(folder, `registry-${randomUUID()}`);
      await writeDurably(path, password);
      return withPassword(spec, `file:${path}`);
    },
    async keepOnly(specs) {
      const kept = new Set(specs.map((spec) => basename(REFERENCE.exec((spec && passwordOf(spec)) ?? '')?.[1] ?? '')));
      for (const name of await names()) if (!kept.has(name)) await unlink(join(folder, name));
    },
    async values() {
      return await Promise.all((await names()).map((name) => readFile(join(folder, name), 'utf8')));
    },
  };
}

export const passwordOf = (spec: ClusterSpec): string | undefined => spec.clusterRuntime?.clusterCri?.registryAuth?.password;

/** The same spec with another password; undefined takes it out. */
export function withPassword(spec: ClusterSpec, password: string | undefined): ClusterSpec {
  const { clusterRuntime } = spec;
  const { clusterCri } = clusterRuntime ?? {};
  if (!clusterRuntime || !clusterCri?.registryAuth) return spec;
  const { password: _, ...auth } = clusterCri.registryAuth;
  const registryAuth = { ...auth, ...(password !== undefined && { password }) };
  return { ...spec, clusterRuntime: { ...clusterRuntime, clusterCri: { ...clusterCri, registryAuth } } };
}
