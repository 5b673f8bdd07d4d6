import type { TObject, TSchema } from 'typebox';
import { enumeration } from '../../kube/fields.ts';
import { badRequest, type StatusObject } from '../../kube/status.ts';
import { duplicateFields } from './body.ts';
import { type Decoded, decode, fieldValidation } from './validate.ts';

/** Fields of an object that are no options. */
const OBJECT_FIELDS = new Set(['apiVersion', 'kind', 'metadata']);

/** A field of an options object that may stand in the query: a scalar, or a list of scalars (given repeatedly). */
export type QueryField = { name: string; schema: TSchema; list: boolean; type: 'string' | 'boolean' | 'integer' };

/** The fields of `schema` that may stand in the query instead of the body. */
export function queryFields(schema: TObject): QueryField[] {
  return Object.entries(schema.properties).flatMap(([name, field]): QueryField[] => {
    if (OBJECT_FIELDS.has(name)) return [];
    const list = 'type' in field && field.type === 'array' && 'items' in field;
    const type = scalarType(list ? (field as { items: TSchema }).items : field);
    return type ? [{ name, schema: field, list, type }] : [];
  });
}

function scalarType(schema: TSchema): QueryField['type'] | undefined {
  const type = 'type' in schema ? schema.type : typeof enumeration(schema)?.[0];
  return type === 'string' || type === 'boolean' || type === 'integer' ? type : undefined;
}

/**
 * The options that stand in the query, as values of their types; nothing is checked against bounds yet. Parameters that are no fields of
 * `schema` are ignored. Throws StatusError 400 for text that is no value of its type, and for one parameter with several values.
 */
export function optionsFromQuery(schema: TObject, query: URLSearchParams): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const { name, list, type } of queryFields(schema)) {
    const texts = query.getAll(name);
    if (texts.length === 0) continue;
    const values = [...new Set(texts.map((text) => scalar(name, type, text)))];
    if (!list && values.length > 1) throw badRequest(`query parameter "${name}" stands twice with different values`);
    options[name] = list ? values : values[0];
  }
  return options;
}

/** Stricter than kube-apiserver, for which every text but `false` and `0` is true: `force=flase` must not mean yes. */
function scalar(name: string, type: QueryField['type'], text: string): string | number | boolean {
  const refuse = (what: string) => badRequest(`query parameter "${name}": ${JSON.stringify(text.slice(0, 64))} is not ${what}`);
  switch (type) {
    case 'string':
      return text;
    case 'boolean':
      if (text === 'true' || text === 'True' || text === '1') return true;
      if (text === 'false' || text === 'False' || text === '0') return false;
      throw refuse('true or false');
    case 'integer':
      if (text.length > 16 || !/^-?\d+$/.test(text) || !Number.isSafeInteger(Number(text))) throw refuse('a whole number');
      return Number(text);
  }
}

/**
 * The options of a request from its body and its query together. Throws as decode() and optionsFromQuery() do, and StatusError 400 when a
 * field stands in both with different values, or a dry run is asked for where there is none.
 */
export function readOptions<T extends TObject>(
  schema: T,
  body: unknown,
  query: URLSearchParams,
  expected: { kind: string; apiVersion: string; object: StatusObject },
): Decoded<T> {
  if (query.get('dryRun') && !Object.hasOwn(schema.properties, 'dryRun')) {
    // Going on would do for real what the caller wanted only tried.
    throw badRequest(`${expected.kind} has no dry run: leave out "dryRun"`);
  }
  const fromQuery = optionsFromQuery(schema, query);
  const inBody = typeof body === 'object' && body !== null && !Array.isArray(body) ? (body as Record<string, unknown>) : undefined;
  for (const [name, value] of Object.entries(fromQuery)) {
    const other = inBody && Object.hasOwn(inBody, name) ? inBody[name] : undefined;
    if (other !== undefined && other !== null && JSON.stringify(other) !== JSON.stringify(value)) {
      throw badRequest(`"${name}" is ${shown(value)} in the query and ${shown(other)} in the body`);
    }
  }
  const merged = inBody || body === undefined || body === null ? { ...inBody, ...fromQuery } : body;
  return decode(schema, merged, {
    ...expected,
    fieldValidation: fieldValidation(query, expected.object),
    duplicates: duplicateFields(body),
  });
}

const shown = (value: unknown) => JSON.stringify(value).slice(0, 64);
