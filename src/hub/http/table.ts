import { badRequest } from '../../kube/status.ts';
import { age } from './duration.ts';
import type { ListMeta, ObjectMeta } from './meta.ts';
import type { Conversion } from './negotiate.ts';
import type { Column } from './resource.ts';

/** What each row's `object` holds: nothing, the metadata (default), or all of it. */
export type IncludeObject = 'None' | 'Metadata' | 'Object';

export type ColumnDefinition = { name: string; type: string; format: string; description: string; priority: number };
export type TableRow = { cells: (string | number | null)[]; object?: object };
/** `meta.k8s.io/v1` Table, server-side printing for kubectl. */
export type Table = {
  kind: 'Table';
  apiVersion: 'meta.k8s.io/v1';
  metadata: ListMeta;
  columnDefinitions: readonly ColumnDefinition[] | null;
  rows: TableRow[];
};

type Listed = { metadata?: ListMeta; items: readonly object[] };

const META_V1 = 'meta.k8s.io/v1';
/** Without `?includeObject` the metadata is sent. Throws StatusError 400 for an unknown value. */
export function includeObject(query: URLSearchParams): IncludeObject {
  const value = query.get('includeObject') ?? '';
  if (value === '') return 'Metadata';
  if (value === 'None' || value === 'Metadata' || value === 'Object') return value;
  throw badRequest(
    `Unable to convert to Table as requested: includeObject: Invalid value: ${JSON.stringify(value.slice(0, 64))}: must be 'Metadata', 'Object', 'None', or empty`,
  );
}

/** The definitions of columns as a Table has them. A date is shown as an age, which is text. */
export function columnDefinitions<T>(columns: readonly Column<T>[]): ColumnDefinition[] {
  return columns.map(({ name, type, format, description, priority }) => ({
    name,
    type: type === 'date' ? 'string' : type,
    format: format ?? '',
    description,
    priority: priority ?? 0,
  }));
}

const isList = (object: object): object is Listed => 'items' in object && Array.isArray(object.items);
const metadataOf = (object: object): ObjectMeta =>
  'metadata' in object && typeof object.metadata === 'object' && object.metadata !== null ? (object.metadata as ObjectMeta) : {};

function cell<T>(column: Column<T>, object: T, now: number): string | number | null {
  const value = column.value(object);
  return column.type === 'date' && value !== null ? age(String(value), now) : value;
}

function row<T>(columns: readonly Column<T>[], object: object, include: IncludeObject, now: number): TableRow {
  const cells = columns.map((column) => cell(column, object as T, now));
  if (include === 'None') return { cells };
  return { cells, object: include === 'Object' ? object : toPartial(object) };
}

/**
 * A Table of one object or of a list, whose ListMeta passes through. Rows point to the objects that are there: nothing is copied.
 * A column's value null is an empty cell. `now` in milliseconds, for ages.
 */
export function toTable<T>(columns: readonly Column<T>[], object: object, include: IncludeObject = 'Metadata', now = Date.now()): Table {
  const definitions = columnDefinitions(columns);
  if (!isList(object)) return singleRow(definitions, metadataOf(object), row(columns, object, include, now));
  return {
    kind: 'Table',
    apiVersion: META_V1,
    metadata: object.metadata ?? {},
    columnDefinitions: definitions,
    rows: object.items.map((item) => row(columns, item, include, now)),
  };
}

function singleRow(definitions: readonly ColumnDefinition[] | null, metadata: ObjectMeta, only: TableRow): Table {
  const { resourceVersion } = metadata;
  return {
    kind: 'Table',
    apiVersion: META_V1,
    metadata: resourceVersion === undefined ? {} : { resourceVersion },
    columnDefinitions: definitions,
    rows: [only],
  };
}

/** An event of a watch, before and after conversion. */
export type WatchEvent = { type: string; object: object };

/**
 * Converts the events of one watch. Tables carry the column definitions until the first event that kubectl prints, so a bookmark before it
 * does not lose them. A bookmark has no cells to show, only its metadata; an ERROR (a Status) stays as it is.
 */
export function watchConverter<T>(
  convert: Conversion | undefined,
  columns: readonly Column<T>[],
  include: IncludeObject = 'Metadata',
): (event: WatchEvent, now?: number) => WatchEvent {
  if (!convert) return (event) => event;
  if (convert.kind !== 'Table') return (event) => (event.type === 'ERROR' ? event : { type: event.type, object: toPartial(event.object) });
  let definitions: readonly ColumnDefinition[] | null = columnDefinitions(columns);
  return ({ type, object }, now = Date.now()) => {
    if (type === 'ERROR') return { type, object };
    const bookmark = type === 'BOOKMARK';
    const only = bookmark ? { cells: columns.map(() => null), object: toPartial(object) } : row(columns, object, include, now);
    const table = singleRow(definitions, metadataOf(object), only);
    if (!bookmark) definitions = null;
    return { type, object: table };
  };
}

/** `meta.k8s.io/v1` PartialObjectMetadata of an object: its metadata and nothing else. */
export function toPartial(object: object): object {
  return { kind: 'PartialObjectMetadata', apiVersion: META_V1, metadata: metadataOf(object) };
}

/** `meta.k8s.io/v1` PartialObjectMetadataList of a list. */
export function toPartialList(list: object): object {
  const items = isList(list) ? list.items : [];
  return { kind: 'PartialObjectMetadataList', apiVersion: META_V1, metadata: metadataOf(list), items: items.map(toPartial) };
}

/**
 * What a client that asked for `convert` gets instead of `object`, one object or a list. A Status is never converted.
 * Throws StatusError 400 for a wrong `?includeObject`.
 */
export function convertObject<T>(
  convert: Conversion | undefined,
  columns: readonly Column<T>[],
  object: object,
  query: URLSearchParams,
  now = Date.now(),
): object {
  if (!convert || ('kind' in object && object.kind === 'Status')) return object;
  if (convert.kind === 'Table') return toTable(columns, object, includeObject(query), now);
  return convert.kind === 'PartialObjectMetadataList' ? toPartialList(object) : toPartial(object);
}
