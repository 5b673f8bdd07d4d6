import type { TSchema } from 'typebox';
import { Format } from 'typebox/format';
import type { StatusCause } from './status.ts';

/** What reading a value by a schema found out, besides the value: paths of unknown fields, wrong types, and values out of bounds. */
export type Findings = { unknown: string[]; types: string[]; causes: StatusCause[] };

/** Findings of one kind beyond this many are not listed: an answer must not grow with a hostile body. */
export const MAX_FINDINGS = 64;

/** The keywords of JSON Schema that these APIs are described with. Another one is a mistake of the programmer, not of the caller. */
type Keywords = {
  $id?: string;
  type?: string;
  properties?: Record<string, Keywords>;
  patternProperties?: Record<string, Keywords>;
  required?: readonly string[];
  items?: Keywords;
  anyOf?: readonly Keywords[];
  enum?: readonly unknown[];
  const?: unknown;
  pattern?: string;
  format?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
};

const patterns = new Map<string, RegExp>();

/** The values an enumeration allows: `enum`, `const`, or `anyOf` of those; undefined when the schema is none. */
export function enumeration(schema: TSchema): readonly unknown[] | undefined {
  const { enum: values, anyOf } = schema as Keywords;
  if (values) return values;
  if ('const' in schema) return [schema.const];
  const parts = anyOf?.map((option) => enumeration(option as TSchema));
  return parts?.every((part) => part !== undefined) ? parts.flat() : undefined;
}

/**
 * Reads `value` as `schema` says and returns a fresh value that holds known fields only; null counts as absent, as in Kubernetes.
 * Everything that is wrong goes to `findings`, for all fields at once. `path` is '' at the top.
 */
export function readFields(schema: TSchema, value: unknown, path: string, findings: Findings): unknown {
  const keywords = schema as Keywords;
  const type = keywords.type ?? typeOfValues(schema);
  if (!hasType(value, type)) {
    add(findings.types, `cannot unmarshal ${nameOfType(value)} into ${path ? `field "${path}"` : 'the object'} of type ${type}`);
    return undefined;
  }
  if (type === 'object') return readObject(keywords, value as Record<string, unknown>, path, findings);
  if (type === 'array') return readArray(keywords, value as unknown[], path, findings);
  checkScalar(schema, value as string | number | boolean, path, findings);
  return value;
}

function typeOfValues(schema: TSchema): string {
  const [first] = enumeration(schema) ?? [];
  if (first === undefined) throw new Error(`a schema without a type cannot be read: ${JSON.stringify(schema).slice(0, 200)}`);
  return typeof first;
}

function hasType(value: unknown, type: string): boolean {
  switch (type) {
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'array':
      return Array.isArray(value);
    case 'integer':
      return Number.isSafeInteger(value);
    case 'number':
      return Number.isFinite(value);
    default:
      return typeof value === type;
  }
}

function nameOfType(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'number') return `number ${value}`;
  return Array.isArray(value) ? 'array' : typeof value;
}

function readObject(keywords: Keywords, value: Record<string, unknown>, path: string, findings: Findings): object {
  const result: Record<string, unknown> = {};
  const { properties = {}, patternProperties } = keywords;
  const [rest] = Object.values(patternProperties ?? {});
  for (const [name, field] of Object.entries(value)) {
    const known = Object.hasOwn(properties, name) ? properties[name] : undefined;
    const child = known ?? rest;
    const childPath = known || !rest ? joined(path, name) : `${path}[${shortened(name)}]`;
    if (!child) add(findings.unknown, childPath);
    else if (field !== null) result[name] = readFields(child as TSchema, field, childPath, findings);
  }
  for (const name of keywords.required ?? []) {
    if (Object.hasOwn(result, name)) continue;
    add(findings.causes, { reason: 'FieldValueRequired', message: 'Required value', field: joined(path, name) });
  }
  return result;
}

function readArray(keywords: Keywords, value: unknown[], path: string, findings: Findings): unknown[] {
  const { items, minItems, maxItems } = keywords;
  if (maxItems !== undefined && value.length > maxItems) {
    const message = `Too many: ${value.length}: must have at most ${maxItems} items`;
    add(findings.causes, { reason: 'FieldValueTooMany', message, field: path });
    return [];
  }
  if (minItems !== undefined && value.length < minItems) {
    invalid(findings, path, value, `must have at least ${minItems} items`);
  }
  if (!items) throw new Error(`an array schema without items cannot be read (${path})`);
  return value.map((item, index) => readFields(items as TSchema, item, `${path}[${index}]`, findings));
}

function checkScalar(schema: TSchema, value: string | number | boolean, path: string, findings: Findings): void {
  const allowed = enumeration(schema);
  if (allowed && !allowed.includes(value)) {
    const supported = allowed.map((one) => JSON.stringify(one)).join(', ');
    const message = `Unsupported value: ${shown(value)}: supported values: ${supported}`;
    add(findings.causes, { reason: 'FieldValueNotSupported', message, field: path });
    return;
  }
  const { minimum, maximum, minLength, maxLength, pattern, format } = schema as Keywords;
  if (typeof value === 'number') {
    if (minimum !== undefined && value < minimum) invalid(findings, path, value, `must be greater than or equal to ${minimum}`);
    if (maximum !== undefined && value > maximum) invalid(findings, path, value, `must be less than or equal to ${maximum}`);
    return;
  }
  if (typeof value !== 'string') return;
  if (maxLength !== undefined && characters(value) > maxLength) {
    const message = `Too long: may not be more than ${maxLength} characters`;
    add(findings.causes, { reason: 'FieldValueTooLong', message, field: path });
    return;
  }
  if (minLength !== undefined && characters(value) < minLength) {
    invalid(findings, path, value, `must have at least ${minLength} characters`);
  }
  if (pattern !== undefined && !compiled(pattern).test(value)) invalid(findings, path, value, `must match ${pattern}`);
  if (format === 'date-time' && !isTime(value)) invalid(findings, path, value, 'must be a time as in RFC 3339');
}

/** Code points, as JSON Schema counts. */
function characters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** No time is longer than this; the pattern of the format never sees more. */
const isTime = (value: string) => value.length <= 64 && Format.IsDateTime(value);

function compiled(pattern: string): RegExp {
  const known = patterns.get(pattern) ?? new RegExp(pattern, 'u');
  patterns.set(pattern, known);
  return known;
}

function invalid(findings: Findings, path: string, value: unknown, detail: string): void {
  add(findings.causes, { reason: 'FieldValueInvalid', message: `Invalid value: ${shown(value)}: ${detail}`, field: path });
}

function add<T>(list: T[], finding: T): void {
  if (list.length < MAX_FINDINGS) list.push(finding);
}

const shortened = (text: string) => (text.length > 64 ? `${text.slice(0, 64)}…` : text);
const shown = (value: unknown) => (typeof value === 'string' ? JSON.stringify(shortened(value)) : shortened(JSON.stringify(value)));
const joined = (path: string, name: string) => (path ? `${path}.${shortened(name)}` : shortened(name));
