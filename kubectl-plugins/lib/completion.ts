import type { InfraCluster } from '../../src/hub/clusters/schema.ts';
import type { InfraNode, NodeOperation } from '../../src/hub/nodes/schema.ts';
import { CLUSTERS_API, type ClusterRegistrationRequest } from '../../src/kube/clusternet.ts';
import { readKubeconfig } from '../../src/kube/kubeconfig-file.ts';
import { API } from './api.ts';
import { clusterNote } from './clusters.ts';
import { ago } from './duration.ts';
import { type Flag, type ParsedFlags, parseFlags } from './flags.ts';
import { findCommand, INFRA } from './infra.ts';
import { KUBECTL_FLAGS } from './kubectl-flags.ts';
import { isFinal, nameOf } from './operations.ts';
import { plainText } from './plain-text.ts';
import { clusterNameOf, REQUESTS } from './registrations.ts';
import { restart } from './restart.ts';
import { openSession } from './session.ts';
import { processStdio } from './stdio.ts';

/** Directives of cobra's completion protocol. */
const NO_FILES = 4;
const NO_SPACE = 2;
const FILES = 0;

type Answer = { candidates: string[]; directive: number };

/** TAB must not hang: what the server has not said by then is left out. */
const PATIENCE_MS = 3_000;
/** Files are what the shell completes these with. */
const OF_FILES = ['FILE', 'FOLDER'];

/**
 * Answers kubectl's completion of a plugin: `args` are the words after the plugin, the last one being completed. Returns the text for stdout:
 * `value<TAB>description` lines, then `:directive`. Never throws; what cannot be found out gives no candidates.
 */
export async function complete(plugin: 'restart' | 'infra', args: readonly string[]): Promise<string> {
  const before = args.slice(0, -1);
  const current = args.at(-1) ?? '';
  let answer: Answer;
  try {
    answer = await answerFor(plugin, before, current);
  } catch {
    answer = { candidates: [], directive: NO_FILES };
  }
  return [...answer.candidates, `:${answer.directive}`, ''].join('\n');
}

async function answerFor(plugin: 'restart' | 'infra', before: readonly string[], current: string): Promise<Answer> {
  const found = plugin === 'infra' ? findCommand(before) : { command: restart, rest: [...before], group: undefined };
  const { command, rest: given } = found;
  const flags = [...(command?.flags ?? []), ...KUBECTL_FLAGS];

  const equals = /^--([^=]+)=(.*)$/s.exec(current);
  if (equals) {
    const flag = flags.find(({ name }) => name === equals[1]);
    return flag ? await valuesOf(flag, equals[2] ?? '', given, flags) : none();
  }
  const open = openFlag(before.at(-1), flags);
  if (open) return await valuesOf(open, current, given.slice(0, -1), flags);
  if (current.startsWith('-'))
    return matching(
      flags.map((flag) => `--${flag.name}\t${flag.help}`),
      current,
    );
  if (!command) return matching(commandWords(found.group), current);
  switch (command.words) {
    case 'nodes':
      return await nodes(current, lenient(given, flags));
    case 'operations':
      return await operations(current, lenient(given, flags), command.name.endsWith(' cancel'));
    case 'clusters':
      return await clusters(current, lenient(given, flags));
    case 'requests':
      return await requests(current, lenient(given, flags), command.name);
    case 'completion':
      return matching(['install\tWrite the completion files'], current);
    default:
      return none();
  }
}

/** The words that can be the next of a command's name; those of commands that share one stand once. */
function commandWords(group: string | undefined): string[] {
  const prefix = `kubectl infra ${group === undefined ? '' : `${group} `}`;
  const words = new Map<string, string>();
  for (const { name, summary } of INFRA) {
    if (!name.startsWith(prefix)) continue;
    const [word = '', ...more] = name.slice(prefix.length).split(' ');
    if (!words.has(word)) words.set(word, more.length > 0 ? 'The single-node clusters on machines' : summary);
  }
  if (group === undefined) words.set('help', 'Help on a command');
  return [...words].map(([word, summary]) => `${word}\t${summary}`);
}

const none = (): Answer => ({ candidates: [], directive: NO_FILES });

function matching(candidates: string[], prefix: string): Answer {
  const found = candidates.filter((candidate) => candidate.startsWith(prefix));
  return {
    candidates: found,
    directive: found.length > 0 && found.every((candidate) => candidate.endsWith('=')) ? NO_FILES | NO_SPACE : NO_FILES,
  };
}

/** The flag whose value is being written, when the word before is a flag that still needs one. */
function openFlag(word: string | undefined, flags: readonly Flag[]): Flag | undefined {
  const name = /^--([^=]+)$/.exec(word ?? '')?.[1];
  const short = /^-([a-z])$/i.exec(word ?? '')?.[1];
  const flag = flags.find((candidate) => (name ? candidate.name === name : short !== undefined && candidate.short === short));
  return flag && flag.kind !== 'switch' && flag.bare === undefined ? flag : undefined;
}

async function valuesOf(flag: Flag, prefix: string, given: readonly string[], flags: readonly Flag[]): Promise<Answer> {
  if (flag.kind === 'switch') return matching(['true', 'false'], prefix);
  if (flag.choices) return matching([...flag.choices], prefix);
  if (OF_FILES.includes(flag.placeholder ?? '')) return { candidates: [], directive: FILES };
  if (flag.lookup === 'nodes') return await nodes(prefix, lenient(given, flags));
  if (!flag.lookup) return none();
  const config = readKubeconfig(lenient(given, flags).text('kubeconfig'), process.env);
  const names =
    flag.lookup === 'contexts'
      ? [...config.contexts].map(([name, { cluster }]) => (cluster ? `${name}\t${cluster}` : name))
      : [...config[flag.lookup].keys()];
  return matching(names, prefix);
}

/** The flags before the cursor, read as far as they are right. */
function lenient(given: readonly string[], flags: readonly Flag[]): ParsedFlags {
  const args = given.filter((arg) => arg !== '--');
  for (let length = args.length; length > 0; length--) {
    try {
      return parseFlags(args.slice(0, length), flags);
    } catch {
      // Half a flag at the end.
    }
  }
  return parseFlags([], flags);
}

async function ask<T>(flags: ParsedFlags, path: string): Promise<T[]> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const quiet = { ...processStdio(process.env), err: () => undefined, interactive: false };
  const session = openSession('complete', flags, quiet, signal);
  try {
    const { body } = await session.api().ask<{ items: T[] }>({ path, query: { resourceVersion: '0' }, signal, timeoutMs: PATIENCE_MS });
    return body.items;
  } finally {
    session.close();
  }
}

async function nodes(prefix: string, flags: ParsedFlags): Promise<Answer> {
  const kind = /^(?:node|nodes|no)\//.exec(prefix)?.[0] ?? '';
  const taken = new Set(flags.words.map((word) => word.replace(/^[a-z]+\//, '')));
  const items = await ask<InfraNode>(flags, `${API}/nodes`);
  return matching(
    items
      .filter((node) => !taken.has(node.metadata?.name ?? ''))
      .map((node) => `${kind}${node.metadata?.name ?? ''}\t${nodeNote(node, Date.now())}`),
    prefix,
  );
}

/** `Ready · cordoned · restarted 3 d ago by ann`. */
export function nodeNote({ spec, status }: InfraNode, now: number): string {
  const last = status?.lastRestart;
  return [
    status?.ready === 'True' ? 'Ready' : 'NotReady',
    spec?.unschedulable ? 'cordoned' : '',
    status?.operation ? `operation ${status.operation} runs` : '',
    last ? `restarted ${ago(last.time, now)}${last.requestedBy ? ` by ${last.requestedBy}` : ''}` : '',
  ]
    .filter((part) => part !== '')
    .join(' · ');
}

async function operations(prefix: string, flags: ParsedFlags, onlyRunning: boolean): Promise<Answer> {
  const items = await ask<NodeOperation>(flags, `${API}/nodeoperations`);
  const wanted = items.filter((operation) => !onlyRunning || !isFinal(operation));
  return matching(
    wanted.map(
      (operation) =>
        `${nameOf(operation)}\t${operation.spec.action} of ${operation.spec.nodeName} · ${operation.status?.phase ?? 'Pending'} · by ${operation.spec.requestedBy.username}`,
    ),
    prefix,
  );
}

async function clusters(prefix: string, flags: ParsedFlags): Promise<Answer> {
  const kind = /^clusters?\//.exec(prefix)?.[0] ?? '';
  const taken = new Set(flags.words.map((word) => word.replace(/^[a-z]+\//, '')));
  const items = await ask<InfraCluster>(flags, `${API}/clusters`);
  return matching(
    items
      .filter(({ metadata }) => !taken.has(metadata?.name ?? ''))
      .map((cluster) => plainText(`${kind}${cluster.metadata?.name ?? ''}\t${clusterNote(cluster, Date.now())}`)),
    prefix,
  );
}

/** Those that the command can do something about, by the cluster's name where only one has it. */
async function requests(prefix: string, flags: ParsedFlags, command: string): Promise<Answer> {
  const items = await ask<ClusterRegistrationRequest>(flags, `${CLUSTERS_API}/${REQUESTS}`);
  const wanted = items.filter(({ status }) => {
    if (command.endsWith(' approve')) return status?.result !== 'Approved';
    return !command.endsWith(' deny') || status?.result !== 'Denied';
  });
  const candidates = wanted.flatMap((request) => {
    const cluster = clusterNameOf(request);
    const alone = cluster !== '' && items.filter((other) => clusterNameOf(other) === cluster).length === 1;
    const [value, other] = alone ? [cluster, request.metadata.name] : [request.metadata.name, cluster];
    if ([value, other, request.spec.clusterId].some((name) => flags.words.includes(name))) return [];
    const age = request.metadata.creationTimestamp ? `asked ${ago(request.metadata.creationTimestamp, Date.now())}` : '';
    const note = [request.status?.result || 'Pending', other, age].filter((part) => part !== '').join(' · ');
    return [plainText(`${value}\t${note}`).replaceAll('\n', ' ')];
  });
  return matching(candidates, prefix);
}
