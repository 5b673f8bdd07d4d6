import { readFileSync } from 'node:fs';
import type { TSchema } from 'typebox';
import { parse } from 'yaml';
import { ClusterSpec } from '../../src/kube/lifecycle.ts';
import { UsageError } from './exit.ts';
import type { Flag, ParsedFlags } from './flags.ts';

/** Flags that say what the cluster shall be. */
export const BODY_FLAGS: readonly Flag[] = [
  { name: 'filename', short: 'f', kind: 'text', placeholder: 'FILE', help: 'YAML or JSON file with the cluster (spec: ...); - for stdin' },
  {
    name: 'set',
    kind: 'list',
    placeholder: 'PATH=VALUE',
    help: 'One field below spec, for example networking.podSubnet=10.1.0.0/16; may be repeated',
  },
];

type Body = Record<string, unknown>;

/** The object to send: what is in the file, with the fields of --set. Throws UsageError. */
export function lifecycleBody(flags: ParsedFlags): Body {
  const file = flags.text('filename');
  const body = file === undefined ? {} : readBody(file);
  const given = body['spec'] ?? {};
  if (!isObject(given)) throw new UsageError(`${file}: spec is no object`);
  const spec: Body = structuredClone(given);
  for (const setting of flags.list('set')) set(spec, setting);
  return Object.keys(spec).length > 0 ? { ...body, spec } : body;
}

const isObject = (value: unknown): value is Body => typeof value === 'object' && value !== null && !Array.isArray(value);

function readBody(file: string): Body {
  let text: string;
  try {
    text = readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw new UsageError(`cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    const value: unknown = parse(text, { maxAliasCount: 0 });
    if (isObject(value)) return value;
  } catch {
    // The parser's words would repeat a line of the file, which may hold a password.
    throw new UsageError(`${file} is neither YAML nor JSON`);
  }
  throw new UsageError(`${file} holds no object`);
}

type Fields = { type?: string; properties?: Record<string, Fields>; patternProperties?: Record<string, Fields> };

/** Writes `a.b=value` into the spec, as the type of the field says. `null` takes a field away (in a patch). */
function set(spec: Body, setting: string): void {
  const equals = setting.indexOf('=');
  if (equals <= 0) throw new UsageError(`--set=${setting}: takes PATH=VALUE`);
  const names = setting
    .slice(0, equals)
    .replace(/^spec\./, '')
    .split('.');
  const text = setting.slice(equals + 1);
  let at = spec;
  let schema: Fields = ClusterSpec as TSchema as Fields;
  for (let index = 0; ; index++) {
    const name = names[index] ?? '';
    const [rest] = Object.values(schema.patternProperties ?? {});
    // Names of arguments have dots themselves: extraArgs.apiServer.audit-log-maxage.
    const key = rest ? names.slice(index).join('.') : name;
    const field = rest ?? (Object.hasOwn(schema.properties ?? {}, name) ? schema.properties?.[name] : undefined);
    if (!field || key === '') throw new UsageError(`--set=${setting}: the spec has no field ${names.slice(0, index + 1).join('.')}`);
    if (rest || index === names.length - 1) {
      at[key] = fieldValue(field, text, setting);
      return;
    }
    const next = at[key];
    const child: Body = isObject(next) ? next : {};
    at[key] = child;
    at = child;
    schema = field;
  }
}

function fieldValue({ type, properties, patternProperties }: Fields, text: string, setting: string): unknown {
  if (text === 'null') return null;
  if (properties || patternProperties) throw new UsageError(`--set=${setting}: give a field of it`);
  if (type === 'array') return text === '' ? [] : text.split(',');
  if (type !== 'boolean') return text;
  if (text === 'true' || text === 'false') return text === 'true';
  throw new UsageError(`--set=${setting}: takes true or false`);
}
