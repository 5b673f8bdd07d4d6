/** Command-line flags in the manner of Kubernetes' components (pflag): `--name=value`, `--name value`, `--bool`, `--bool=false`, `-v 2`, `-v=2`. */

export type Flag = { name: string; type: 'string' | 'bool' | 'int' | 'duration'; default: string; help: string; repeated?: boolean };

/** A flag that is not known or whose value is wrong. The message is for the person at the shell. */
export class FlagError extends Error {
  override name = 'FlagError';
}

/** The values of all flags as text, defaults included; a repeated flag has them all. Throws FlagError. */
export function parseFlags(flags: readonly Flag[], args: readonly string[]): Map<string, string[]> {
  const known = new Map(flags.map((flag) => [flag.name, flag]));
  const values = new Map<string, string[]>();
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? '';
    const match = /^(?:--([^=]+)|-([a-z]))(?:=(.*))?$/s.exec(arg);
    if (!match) throw new FlagError(`unexpected argument ${JSON.stringify(arg)}: flags begin with --, see --help`);
    const name = match[1] ?? match[2] ?? '';
    const flag = known.get(name);
    if (!flag) throw new FlagError(`unknown flag: ${match[1] ? `--${name}` : `-${name}`}${suggestion(name, flags)}`);
    let value = match[3];
    if (value === undefined) {
      if (flag.type === 'bool') value = 'true';
      else if (at + 1 < args.length) value = args[++at] ?? '';
      else throw new FlagError(`flag needs an argument: ${dashed(flag)}`);
    }
    check(flag, value);
    values.set(name, flag.repeated ? [...(values.get(name) ?? []), value] : [value]);
  }
  for (const flag of flags) if (!values.has(flag.name)) values.set(flag.name, flag.default === '' && flag.repeated ? [] : [flag.default]);
  return values;
}

export const dashed = (flag: Pick<Flag, 'name'>): string => (flag.name.length === 1 ? `-${flag.name}` : `--${flag.name}`);

function suggestion(name: string, flags: readonly Flag[]): string {
  const near = flags.find(
    (flag) => flag.name.startsWith(name) || flag.name.replaceAll('-', '') === name.replaceAll(/[-_]/g, '').toLowerCase(),
  );
  return near ? `; did you mean ${dashed(near)}?` : '; see --help';
}

function check(flag: Flag, value: string): void {
  const wrong = (wanted: string) => new FlagError(`invalid argument ${JSON.stringify(value)} for ${dashed(flag)}: ${wanted}`);
  if (flag.type === 'bool' && value !== 'true' && value !== 'false') throw wrong('must be true or false');
  if (flag.type === 'int' && !/^\d{1,9}$/.test(value)) throw wrong('must be a whole number');
  if (flag.type === 'duration' && parseDuration(value) === undefined) throw wrong('must be a duration like 500ms, 30s, 10m or 1h30m');
}

const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a duration in Go's form (`1h30m`, `0.5s`, `0`); undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  if (!/^(\d{1,9}(\.\d{1,9})?(ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount, , unit] of text.matchAll(/(\d+(\.\d+)?)(ms|s|m|h)/g)) total += Number(amount) * (UNITS[unit ?? ''] ?? 0);
  return total;
}

/** The text of `--help`. */
export function usage(intro: string, flags: readonly Flag[]): string {
  const lines = flags.map((flag) => {
    const kind = flag.type === 'bool' ? '' : ` ${flag.type}`;
    const preset = flag.default === '' || flag.default === 'false' ? '' : ` (default ${flag.default})`;
    return `  ${dashed(flag)}${kind}\n        ${flag.help}${preset}`;
  });
  return `${intro}\n\nFlags:\n${lines.join('\n')}\n`;
}
