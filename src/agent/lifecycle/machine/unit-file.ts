/** What the own supervisor heeds of a unit. Everything else of a unit file is passed over. */
export type Unit = {
  /** argv; ExecStart after expansion of variables. */
  start: string[];
  /** ExecStartPre, one by one before `start`; `mayFail` by a leading `-`. */
  before: { argv: string[]; mayFail: boolean }[];
  environment: Record<string, string>;
  workingDirectory: string;
  restart: 'no' | 'on-failure' | 'always';
  /** Milliseconds. */
  restartDelayMs: number;
  /** Whether stopping ends the whole group or, with KillMode=process, only the main process (containers live on). */
  killGroup: boolean;
  /** Names of targets in whose `.wants` folder `enable` puts a link. */
  wantedBy: string[];
};

/**
 * Reads ExecStart, ExecStartPre, Environment, EnvironmentFile, WorkingDirectory, Restart, RestartSec, KillMode and WantedBy from the text of a unit and of its drop-ins, in that
 * order. An empty assignment resets a list, as in systemd. `file` gives the text of an EnvironmentFile; undefined when there is none. Throws an Error that says what is missing.
 */
export async function readUnit(texts: readonly string[], file: (path: string) => Promise<string | undefined>): Promise<Unit> {
  const lists = new Map<string, string[]>();
  for (const text of texts)
    for (const [key, value] of assignments(text)) lists.set(key, value === '' ? [] : [...(lists.get(key) ?? []), value]);
  const all = (key: string) => lists.get(key) ?? [];
  const last = (key: string) => all(key).at(-1);

  const environment: Record<string, string> = {};
  const assign = (word: string) => {
    const at = word.indexOf('=');
    if (at > 0) environment[word.slice(0, at)] = word.slice(at + 1);
  };
  for (const line of all('Service.Environment')) for (const word of words(line)) assign(word);
  for (const path of all('Service.EnvironmentFile')) {
    const text = await file(path.replace(/^-/, ''));
    if (text === undefined && !path.startsWith('-')) throw new Error(`EnvironmentFile ${path} is not there`);
    for (const line of (text ?? '').split('\n')) if (!/^\s*([#;]|$)/.test(line)) assign(line.trim().replace(/=(["'])(.*)\1$/, '=$2'));
  }
  const start = last('Service.ExecStart');
  if (start === undefined) throw new Error('the unit has no ExecStart');
  const restart = last('Service.Restart') ?? 'no';
  return {
    start: argvOf(start, environment),
    before: all('Service.ExecStartPre').map((line) => ({ argv: argvOf(line, environment), mayFail: /^[@:+!]*-/.test(line) })),
    environment,
    workingDirectory: (last('Service.WorkingDirectory') ?? '/').replace(/^-/, ''),
    restart: restart === 'no' ? 'no' : restart === 'always' ? 'always' : 'on-failure',
    restartDelayMs: seconds(last('Service.RestartSec') ?? '100ms'),
    killGroup: (last('Service.KillMode') ?? 'control-group') !== 'process',
    wantedBy: all('Install.WantedBy').flatMap(words),
  };
}

function* assignments(text: string): Generator<[string, string]> {
  let section = '';
  for (const line of text
    .replace(/\\\n/g, ' ')
    .split('\n')
    .map((one) => one.trim())) {
    const heading = /^\[(.+)\]$/.exec(line)?.[1];
    if (heading !== undefined) section = heading;
    else if (line !== '' && !/^[#;]/.test(line) && line.includes('=')) {
      const at = line.indexOf('=');
      yield [`${section}.${line.slice(0, at).trim()}`, line.slice(at + 1).trim()];
    }
  }
}

/** Words as systemd splits them: by blanks, with single and double quotes and backslashes. */
export function words(line: string): string[] {
  const found: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < line.length; at++) {
    const sign = line[at] ?? '';
    if (sign === '\\' && at + 1 < line.length) word = (word ?? '') + (line[++at] ?? '');
    else if (quote !== '') {
      if (sign === quote) quote = '';
      else word = (word ?? '') + sign;
    } else if (sign === '"' || sign === "'") {
      quote = sign;
      word ??= '';
    } else if (/\s/.test(sign)) {
      if (word !== undefined) found.push(word);
      word = undefined;
    } else word = (word ?? '') + sign;
  }
  if (word !== undefined) found.push(word);
  return found;
}

/** `$NAME` alone as a word becomes any number of words, `${NAME}` stays within its word. */
function argvOf(line: string, environment: Readonly<Record<string, string>>): string[] {
  return words(line.replace(/^[-@:+!]+/, '')).flatMap((word) => {
    const alone = /^\$([A-Za-z_]\w*)$/.exec(word)?.[1];
    if (alone !== undefined) return words(environment[alone] ?? '');
    return [word.replace(/\$\{([A-Za-z_]\w*)\}/g, (_, name: string) => environment[name] ?? '').replaceAll('$$', '$')];
  });
}

function seconds(text: string): number {
  const units: Record<string, number> = { ms: 1, s: 1_000, sec: 1_000, min: 60_000, m: 60_000, '': 1_000 };
  let sum = 0;
  for (const [, number = '0', unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]*)/g)) sum += Number(number) * (units[unit] ?? 1_000);
  return sum;
}
