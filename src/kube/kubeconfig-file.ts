import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join, sep } from 'node:path';
import { parse } from 'yaml';

/** `clusters[].cluster` of a kubeconfig, with the field names of the file. */
export type ClusterEntry = {
  server?: string;
  'tls-server-name'?: string;
  'insecure-skip-tls-verify'?: boolean;
  'certificate-authority'?: string;
  'certificate-authority-data'?: string;
  'proxy-url'?: string;
  extensions?: { name?: string; extension?: unknown }[];
};

/** `users[].user.exec`: a program that prints an ExecCredential. */
export type ExecEntry = {
  command?: string;
  args?: string[] | null;
  env?: { name: string; value: string }[] | null;
  apiVersion?: string;
  installHint?: string;
  provideClusterInfo?: boolean;
  interactiveMode?: 'Never' | 'IfAvailable' | 'Always';
};

/** `users[].user` of a kubeconfig. */
export type UserEntry = {
  'client-certificate'?: string;
  'client-certificate-data'?: string;
  'client-key'?: string;
  'client-key-data'?: string;
  token?: string;
  tokenFile?: string;
  username?: string;
  password?: string;
  as?: string;
  'as-uid'?: string;
  'as-groups'?: string[] | null;
  'as-user-extra'?: Record<string, string[]> | null;
  'auth-provider'?: { name: string; config?: Record<string, string> | null };
  exec?: ExecEntry;
};

export type ContextEntry = { cluster?: string; user?: string; namespace?: string };

export type Kubeconfig = {
  currentContext: string;
  clusters: Map<string, ClusterEntry>;
  users: Map<string, UserEntry>;
  contexts: Map<string, ContextEntry>;
  /** The files that were read. */
  files: string[];
};

/** The files that kubectl would read: `explicit` alone, else those in KUBECONFIG, else ~/.kube/config. */
export function kubeconfigPaths(explicit: string | undefined, env: NodeJS.ProcessEnv): string[] {
  if (explicit) return [explicit];
  const listed = env['KUBECONFIG'];
  if (listed) return [...new Set(listed.split(delimiter).filter((path) => path !== ''))];
  return [join(env['HOME'] || homedir(), '.kube', 'config')];
}

/**
 * Reads and merges kubeconfig files by kubectl's rules: the first file to set a value or an entry wins, files that do not exist are passed over
 * (but not `explicit`), relative paths are relative to the file they stand in.
 * https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files
 * Throws an Error that names the file.
 */
export function readKubeconfig(explicit: string | undefined, env: NodeJS.ProcessEnv): Kubeconfig {
  const merged: Kubeconfig = { currentContext: '', clusters: new Map(), users: new Map(), contexts: new Map(), files: [] };
  for (const path of kubeconfigPaths(explicit, env)) {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      if (!explicit && error instanceof Error && 'code' in error && error.code === 'ENOENT') continue;
      throw new Error(`cannot read the kubeconfig: ${message(error)}`, { cause: error });
    }
    let file: Kubeconfig;
    try {
      file = parseKubeconfig(text, dirname(path));
    } catch (error) {
      throw new Error(`kubeconfig ${path}: ${message(error)}`, { cause: error });
    }
    merged.files.push(path);
    merged.currentContext ||= file.currentContext;
    for (const kind of ['clusters', 'users', 'contexts'] as const) {
      for (const [name, entry] of file[kind]) {
        const entries: Map<string, unknown> = merged[kind];
        if (!entries.has(name)) entries.set(name, entry);
      }
    }
  }
  return merged;
}

const message = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** Reads one file's text; relative paths in it are relative to `folder`. Throws an Error that says what is wrong with it. */
export function parseKubeconfig(text: string, folder: string): Kubeconfig {
  const document: unknown = parse(text);
  const config: Kubeconfig = { currentContext: '', clusters: new Map(), users: new Map(), contexts: new Map(), files: [] };
  if (document === null || document === undefined) return config;
  if (typeof document !== 'object' || Array.isArray(document)) throw new Error('not a kubeconfig: the file is not a map');
  const fields = document as Record<string, unknown>;
  if (fields['kind'] !== undefined && fields['kind'] !== 'Config') throw new Error(`not a kubeconfig: kind is ${String(fields['kind'])}`);
  if (typeof fields['current-context'] === 'string') config.currentContext = fields['current-context'];
  collect(fields['clusters'], 'cluster', config.clusters);
  collect(fields['contexts'], 'context', config.contexts);
  collect(fields['users'], 'user', config.users);
  const absolute = (path: string) => (path === '' || isAbsolute(path) ? path : join(folder, path));
  for (const cluster of config.clusters.values()) {
    if (cluster['certificate-authority']) cluster['certificate-authority'] = absolute(cluster['certificate-authority']);
  }
  for (const user of config.users.values()) {
    for (const field of ['client-certificate', 'client-key', 'tokenFile'] as const) {
      const path = user[field];
      if (path) user[field] = absolute(path);
    }
    // A command without a separator is looked up in PATH, as the shell does it.
    const command = user.exec?.command;
    if (user.exec && command && (command.includes(sep) || command.includes('/'))) user.exec.command = absolute(command);
  }
  return config;
}

function collect<T extends object>(list: unknown, field: string, into: Map<string, T>): void {
  if (list === undefined || list === null) return;
  if (!Array.isArray(list)) throw new Error(`${field}s is not a list`);
  for (const item of list as Record<string, unknown>[]) {
    const name = item?.['name'];
    if (typeof name !== 'string') throw new Error(`an entry of ${field}s has no name`);
    if (into.has(name)) throw new Error(`${field}s has "${name}" twice`);
    into.set(name, (item[field] ?? {}) as T);
  }
}
