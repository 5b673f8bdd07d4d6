import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root } from './kustomize.ts';

/** A text that a name stands for, and where in its file it is defined. */
type Named = { name: string; value: string; at: number };

const source = (file: string): string => readFileSync(join(root, file), 'utf8');

/** The source files that a program is made of: its entry and what that imports, relative to the root. */
export function sourcesOf(entry: string): string[] {
  const found = new Set<string>();
  const add = (file: string): void => {
    if (found.has(file)) return;
    found.add(file);
    for (const [, target = ''] of source(file).matchAll(/(?:from|import\()\s*'(\.[^']+\.ts)'/g)) add(join(dirname(file), target));
  };
  add(entry);
  return [...found];
}

/** Constants that are a text, and functions that only make one. */
function namedTexts(text: string): (Named & { exported: boolean })[] {
  const pattern = /(export )?const (\w+) = (?:\([^)]*\)(?:: \w+)? => )?([`'])((?:(?!\3)[^\n])*)\3/g;
  return [...text.matchAll(pattern)].map(({ 1: mark, 2: name = '', 4: value = '', index }) => ({
    name,
    value,
    at: index,
    exported: mark !== undefined,
  }));
}

/** The text with the names in it filled in, each as the last definition before it says. */
function filledIn(text: string, at: number, names: readonly Named[], depth = 0): string {
  if (depth > 5) throw new Error(`${text} never ends`);
  return text.replaceAll(/\$\{(\w+)(?:\((?:[^(){}]|\([^()]*\))*\))?\}/g, (whole: string, name: string) => {
    const own = names.filter((one) => one.name === name);
    const meant = own.findLast((one) => one.at < at) ?? own[0];
    return meant ? filledIn(meant.value, meant.at, names, depth + 1) : whole;
  });
}

const variable = '(?:\\$\\{[^{}]*(?:\\{[^{}]*\\}[^{}]*)*\\}|[\\w.-]+)';
const pathPattern = new RegExp(
  `^/api(?:/v1|s/([a-z0-9.]+)/v\\w+)/(?:namespaces/${variable}/(?=[a-z]))?([a-z]+)(?:/${variable}(?:/([a-z]+))?)?(?:\\?.*)?$`,
);

/** `group/resource` or `group/resource/subresource` of a path of the Kubernetes API; undefined when it is none, or only the beginning of one. */
export function resourceIn(path: string): string | undefined {
  const [found, group = '', resource, subresource] = pathPattern.exec(path) ?? [];
  if (found === undefined || (resource === 'namespaces' && group !== '')) return undefined;
  return `${group}/${resource}${subresource ? `/${subresource}` : ''}`;
}

/** Resources of the Kubernetes API whose paths stand in the sources of a program, without those that the hub itself serves and those in files below `except`. */
export function resourcesInSources(entry: string, except?: string): Set<string> {
  const among = sourcesOf(entry).filter((file) => except === undefined || !file.startsWith(except));
  const files = among.map((file) => source(file).replaceAll(/^\s*(?:\/?\*|\/\/).*$/gm, ''));
  const exported = files.flatMap(namedTexts).filter((one) => one.exported);
  const found = new Set<string>();
  for (const text of files) {
    const own = namedTexts(text);
    // What a file defines itself hides what others export.
    const names = [...exported.filter(({ name }) => !own.some((one) => one.name === name)), ...own];
    for (const { 2: quoted = '', index } of text.matchAll(/([`'])((?:(?!\1)[^\n])*)\1/g)) {
      const resource = /^(?:\/api|\$\{)/.test(quoted) ? resourceIn(filledIn(quoted, index, names)) : undefined;
      if (resource && !/^(infraops\.michael\.io|proxies\.clusternet\.io)\//.test(resource)) found.add(resource);
    }
  }
  return found;
}
