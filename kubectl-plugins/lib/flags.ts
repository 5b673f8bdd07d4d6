import { UsageError } from './exit.ts';

/** One flag of a command, as parser, help and completion see it. */
export type Flag = {
  name: string;
  short?: string;
  /** `switch` takes no value but `=true` or `=false`; `list` may be repeated. */
  kind: 'switch' | 'text' | 'list';
  help: string;
  /** What stands for the value in the help, for example DURATION. */
  placeholder?: string;
  /** The value when the flag stands without one (`--dry-run`). Then a value needs `=`, as with kubectl. */
  bare?: string;
  /** Shown in the help; the caller applies it. */
  default?: string;
  /** For completion: fixed values, each with an optional description behind a tab. */
  choices?: readonly string[];
  /** For completion: what to look up. */
  lookup?: 'contexts' | 'clusters' | 'users' | 'nodes';
};

export type ParsedFlags = {
  /** What is not a flag, in order. */
  words: string[];
  given(name: string): boolean;
  /** Whether a switch is on; `byDefault` when it was not given. */
  on(name: string, byDefault?: boolean): boolean;
  /** The last value. */
  text(name: string): string | undefined;
  /** All values, in order. */
  list(name: string): string[];
};

const TRUE = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'false', 'FALSE', 'False']);

/**
 * Reads flags by the rules of kubectl's own parser (spf13/pflag): `--a=b`, `--a b`, `-a b`, `-ab`, `-a=b`, grouped short switches, flags and
 * words mixed, all words after `--`. Throws UsageError for a flag that is unknown, lacks its value or has a wrong one.
 */
export function parseFlags(args: readonly string[], flags: readonly Flag[]): ParsedFlags {
  const byName = new Map(flags.map((flag) => [flag.name, flag]));
  const byShort = new Map(flags.filter((flag) => flag.short !== undefined).map((flag) => [flag.short, flag]));
  const values = new Map<string, string[]>();
  const words: string[] = [];
  const rest = [...args];

  const set = (flag: Flag, value: string, shown: string) => {
    if (flag.kind === 'switch' && !TRUE.has(value) && !FALSE.has(value)) {
      throw new UsageError(`${shown} is either true or false, not "${value}"`);
    }
    values.set(flag.name, [...(values.get(flag.name) ?? []), value]);
  };
  const implied = (flag: Flag) => flag.bare ?? (flag.kind === 'switch' ? 'true' : undefined);
  const next = (shown: string): string => {
    const value = rest.shift();
    if (value === undefined) throw new UsageError(`flag needs an argument: ${shown}`);
    return value;
  };

  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--') {
      words.push(...rest.splice(0));
    } else if (arg.startsWith('--')) {
      const equals = arg.indexOf('=');
      const name = equals < 0 ? arg.slice(2) : arg.slice(2, equals);
      const flag = byName.get(name);
      if (!flag) throw new UsageError(`unknown flag: --${name}`);
      set(flag, equals < 0 ? (implied(flag) ?? next(`--${name}`)) : arg.slice(equals + 1), `--${name}`);
    } else if (arg.startsWith('-') && arg.length > 1) {
      for (let letters = arg.slice(1); letters !== ''; ) {
        const flag = byShort.get(letters.slice(0, 1));
        const shown = `-${letters.slice(0, 1)}`;
        if (!flag) throw new UsageError(`unknown shorthand flag: ${shown.slice(1)} in ${arg}`);
        const following = letters.slice(1);
        const whenBare = implied(flag);
        letters = '';
        if (following.startsWith('=')) set(flag, following.slice(1), shown);
        else if (whenBare !== undefined) {
          set(flag, whenBare, shown);
          letters = following;
        } else set(flag, following || next(shown), shown);
      }
    } else {
      words.push(arg);
    }
  }
  const text = (name: string) => values.get(name)?.at(-1);
  return {
    words,
    given: (name) => values.has(name),
    on: (name, byDefault = false) => {
      const value = text(name);
      return value === undefined ? byDefault : TRUE.has(value);
    },
    text,
    list: (name) => values.get(name) ?? [],
  };
}
