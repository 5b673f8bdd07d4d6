import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Document, isMap, isSeq, parseDocument, YAMLSeq } from 'yaml';
import { type Kubeconfig, kubeconfigPaths, readKubeconfig } from '../../src/kube/kubeconfig-file.ts';
import { type ChildEntries, childPath } from './child-entries.ts';
import { EXIT, ExitError } from './exit.ts';
import { withFileLock, writeAtomically } from './locked-file.ts';

export type Merged = { file: string; updated: boolean };

/**
 * Adds a child's entries to the user's kubeconfig, or renews them, where kubectl would write them; comments and everything else stay. The
 * current context is not changed. Throws an ExitError when the names are taken by something else, unless `overwrite`.
 */
export async function mergeIntoKubeconfig(
  entries: ChildEntries,
  options: { explicit: string | undefined; env: NodeJS.ProcessEnv; clusterID: string; overwrite: boolean; signal: AbortSignal },
): Promise<Merged> {
  const paths = kubeconfigPaths(options.explicit, options.env).map((path) => resolve(path));
  const file = targetOf(paths, entries.name);
  return await withFileLock(file, options.signal, () => {
    const updated = checkNames(paths, file, entries, options.clusterID, options.overwrite);
    const document = openDocument(file);
    put(document, 'clusters', 'cluster', entries.name, entries.cluster);
    if (entries.user) put(document, 'users', 'user', entries.userName, entries.user);
    const context = { cluster: entries.name, user: entries.userName, ...(entries.namespace && { namespace: entries.namespace }) };
    put(document, 'contexts', 'context', entries.name, context);
    const text = isJson(file) ? `${JSON.stringify(document.toJS(), undefined, 2)}\n` : document.toString({ lineWidth: 0 });
    writeAtomically(file, text);
    return { file, updated };
  });
}

const entriesIn = (path: string): Kubeconfig | undefined => (existsSync(path) ? readKubeconfig(path, {}) : undefined);

/** The file that has the context already; else, as kubectl chooses, the first that exists, or the last of the list. */
function targetOf(paths: readonly string[], name: string): string {
  const target = paths.find((path) => entriesIn(path)?.contexts.has(name)) ?? paths.find((path) => existsSync(path)) ?? paths.at(-1);
  if (target === undefined) throw new ExitError(EXIT.error, 'no kubeconfig to write to: use --kubeconfig FILE');
  return target;
}

/** Whether the names are there and lead to this same cluster. */
function checkNames(paths: readonly string[], target: string, entries: ChildEntries, clusterID: string, overwrite: boolean): boolean {
  let updated = false;
  for (const path of paths) {
    const config = entriesIn(path);
    if (!config) continue;
    const context = config.contexts.get(entries.name);
    const cluster = config.clusters.get(entries.name);
    if (!context && !cluster && !(entries.user && config.users.has(entries.userName))) continue;
    const leadsHere = cluster?.server?.endsWith(childPath(clusterID)) && (!context || context.cluster === entries.name);
    if (path !== target || !(leadsHere || overwrite)) {
      const what = context ? 'context' : cluster ? 'cluster' : 'user';
      const how = path === target ? ', or --overwrite it' : '';
      throw new ExitError(
        EXIT.error,
        `${path} has a ${what} "${entries.name}" already that does not lead to this cluster: choose another name with --context-name${how}`,
      );
    }
    updated = true;
  }
  return updated;
}

/** kubectl reads JSON too, and other tools may read nothing else. */
function isJson(file: string): boolean {
  try {
    return typeof JSON.parse(readFileSync(file, 'utf8')) === 'object';
  } catch {
    return false;
  }
}

function openDocument(file: string): Document {
  const document: Document = parseDocument(existsSync(file) ? readFileSync(file, 'utf8') : '');
  const [wrong] = document.errors;
  if (wrong) throw new ExitError(EXIT.error, `kubeconfig ${file}: ${wrong.message}`);
  if (document.contents === null) return new Document({ apiVersion: 'v1', kind: 'Config', preferences: {} });
  if (!isMap(document.contents)) throw new ExitError(EXIT.error, `${file} is not a kubeconfig`);
  return document;
}

function put(document: Document, list: string, field: string, name: string, value: object): void {
  let sequence = document.get(list, true);
  if (!isSeq(sequence)) {
    sequence = new YAMLSeq();
    document.set(list, sequence);
  }
  if (!isSeq(sequence)) return;
  // An empty list stands as [] in the file, which is no place for entries of many lines.
  if (sequence.items.length === 0) sequence.flow = false;
  const entry = document.createNode({ name, [field]: value }, { aliasDuplicateObjects: false });
  const at = sequence.items.findIndex((item) => isMap(item) && item.get('name') === name);
  if (at >= 0) sequence.items[at] = entry;
  else sequence.items.push(entry);
}
