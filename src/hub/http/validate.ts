import type { Static, TObject } from 'typebox';
import { type Findings, MAX_FINDINGS, readFields } from '../../kube/fields.ts';
import { badRequest, invalid, type StatusObject } from '../../kube/status.ts';
import { duplicateFields } from './body.ts';

/** What to do about unknown and duplicate fields: say nothing, warn (default), or refuse. */
export type FieldValidation = 'Ignore' | 'Warn' | 'Strict';

/** The query parameter `fieldValidation`. Throws StatusError 422 for an unknown value. */
export function fieldValidation(query: URLSearchParams, object: StatusObject): FieldValidation {
  const value = query.get('fieldValidation') ?? '';
  if (value === '') return 'Warn';
  if (value === 'Ignore' || value === 'Warn' || value === 'Strict') return value;
  const message = `Unsupported value: ${JSON.stringify(value.slice(0, 64))}: supported values: "", "Ignore", "Strict", "Warn"`;
  throw invalid(object, [{ reason: 'FieldValueNotSupported', message, field: 'fieldValidation' }]);
}

export type DecodeOptions = {
  fieldValidation: FieldValidation;
  /** What a body may call itself; both may be absent in it. */
  kind: string;
  apiVersion: string;
  /** Named in a 422. */
  object: StatusObject;
  /** Paths of fields that stood twice; default: what duplicateFields() knows of the value. */
  duplicates?: readonly string[];
};

export type Decoded<T extends TObject> = { value: Static<T>; warnings: string[] };

/**
 * Reads a body as `schema` says; an absent body is an empty object. The value is fresh and holds known fields only.
 * Throws StatusError 400 for a wrong type, kind or apiVersion and, when Strict, for unknown and duplicate fields; 422 with one cause per
 * field for values out of bounds. `warnings` are for `Warning` headers. The words are those of kube-apiserver.
 */
export function decode<T extends TObject>(schema: T, value: unknown, options: DecodeOptions): Decoded<T> {
  const { kind, apiVersion, object } = options;
  const body = value === undefined || value === null ? {} : value;
  checkTypeMeta(body, kind, apiVersion);
  const findings: Findings = { unknown: [], types: [], causes: [] };
  const read = readFields(schema, body, '', findings);
  const handled = `${kind} in version ${JSON.stringify(versionOf(apiVersion))} cannot be handled as a ${kind}`;
  if (findings.types.length > 0) throw badRequest(`${handled}: json: ${findings.types.join(', ')}`);
  const strict = [
    ...(options.duplicates ?? duplicateFields(body)).slice(0, MAX_FINDINGS).map((path) => `duplicate field ${quoted(path)}`),
    ...findings.unknown.map((path) => `unknown field ${quoted(path)}`),
  ];
  if (strict.length > 0 && options.fieldValidation === 'Strict') {
    throw badRequest(`${handled}: strict decoding error: ${strict.join(', ')}`);
  }
  if (findings.causes.length > 0) throw invalid(object, findings.causes);
  return { value: read as Static<T>, warnings: options.fieldValidation === 'Warn' ? strict : [] };
}

const quoted = (path: string) => JSON.stringify(path.slice(0, 256));
const versionOf = (apiVersion: string) => apiVersion.slice(apiVersion.indexOf('/') + 1);

function checkTypeMeta(body: unknown, kind: string, apiVersion: string): void {
  if (typeof body !== 'object' || body === null) return;
  const says = body as { apiVersion?: unknown; kind?: unknown };
  if (typeof says.apiVersion === 'string' && says.apiVersion !== '' && says.apiVersion !== apiVersion) {
    const given = says.apiVersion.slice(0, 256);
    throw badRequest(`the API version in the data (${given}) does not match the expected API version (${apiVersion})`);
  }
  if (typeof says.kind === 'string' && says.kind !== '' && says.kind !== kind) {
    const given = says.kind.slice(0, 256);
    throw badRequest(`${given} in version ${JSON.stringify(versionOf(apiVersion))} cannot be handled as a ${kind}`);
  }
}
