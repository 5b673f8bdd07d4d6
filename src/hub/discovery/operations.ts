import { type TObject, type TSchema, Type } from 'typebox';
import { ListMeta } from '../http/meta.ts';
import { queryFields } from '../http/query-options.ts';
import { type ApiResource, type BodyType, CHANGE_VERBS, type QueryParameter, type Subresource } from '../http/resource.ts';
import type { GroupVersion } from './documents.ts';

export type Gvk = { group: string; version: string; kind: string };

/** A query parameter; `schema` is that of one value, or of a list that is given by repeating the parameter. */
export type Parameter = { name: string; description: string; schema: TSchema };

/** One method of one path, before it is written down as OpenAPI 3.0 or Swagger 2.0. */
export type Operation = {
  path: string;
  method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  id: string;
  summary: string;
  /** `x-kubernetes-action`. */
  action: 'list' | 'get' | 'post' | 'put' | 'patch' | 'delete';
  gvk: Gvk;
  parameters: Parameter[];
  /** Whether the path has `{name}`. */
  named: boolean;
  body?: TObject;
  /** Media types of the body. */
  consumes: readonly string[];
  code: number;
  /** undefined: text. */
  response?: TObject;
  produces: readonly string[];
};

/** What the documents of one group version are made from. `kinds` are the schemas that stand for a kind, by `$id`. */
export type Description = { group: string; version: string; operations: Operation[]; kinds: Map<string, Gvk[]> };

const OBJECT_TYPES = ['application/json', 'application/yaml'];
const BODY_TYPES: readonly BodyType[] = ['application/json', 'application/yaml'];

const query = (name: string, schema: TSchema, description: string): Parameter => ({ name, schema, description });
const text = Type.String();
const flag = Type.Boolean();
const whole = Type.Integer();

export const PRETTY = query('pretty', text, 'With true the answer is indented.');

const LIST_PARAMETERS: Parameter[] = [
  query('allowWatchBookmarks', flag, 'Watch: also send BOOKMARK events, which carry only a resourceVersion.'),
  query('continue', text, 'Token of the page before, for the next page.'),
  query('fieldSelector', text, 'Only objects whose fields have these values.'),
  query('labelSelector', text, 'Only objects with these labels.'),
  query('limit', whole, 'At most this many objects in one answer; the rest by continue.'),
  query('resourceVersion', text, 'List: at least as new as this. Watch: from here.'),
  query('resourceVersionMatch', text, 'How resourceVersion is meant: Exact or NotOlderThan.'),
  query('sendInitialEvents', flag, 'Watch: begin with the objects that are there, then a bookmark.'),
  query('timeoutSeconds', whole, 'Ends the request after this time, in seconds.'),
  query('watch', flag, 'Stream of changes instead of a list.'),
];

const CREATE_PARAMETERS: Parameter[] = [
  query('fieldManager', text, 'Taken for compatibility, without effect.'),
  query('fieldValidation', text, 'Unknown and duplicate fields: Ignore, Warn (default) or Strict.'),
];

/** Describes all operations and kinds of a group version. */
export function describe({ group, version, resources }: GroupVersion): Description {
  const operations: Operation[] = [];
  const kinds = new Map<string, Gvk[]>();
  const isKind = (schema: TObject | undefined, kind: string | undefined) => {
    const { $id } = (schema ?? {}) as { $id?: string };
    if ($id === undefined || kind === undefined) return;
    const known = kinds.get($id) ?? [];
    if (!known.some((gvk) => gvk.kind === kind)) kinds.set($id, [...known, { group, version, kind }]);
  };
  for (const resource of resources) {
    const list = listSchema(resource);
    isKind(resource.schema, resource.kind);
    isKind(list, `${resource.kind}List`);
    operations.push(...objectOperations(resource, list));
    for (const subresource of resource.subresources) {
      if (subresource.response) isKind(subresource.response, kindOf(subresource.response, subresource.kind));
      for (const verb of CHANGE_VERBS) {
        const change = subresource[verb];
        if (change?.body) isKind(change.body, change.bodyKind ?? subresource.kind);
        if (change?.response) isKind(change.response, kindOf(change.response, subresource.kind));
      }
      operations.push(...subresourceOperations(resource, subresource));
    }
  }
  const ids = new Set(operations.map((operation) => operation.id));
  if (ids.size !== operations.length) throw new Error(`${group}/${version}: operationIds are not unique`);
  return { group, version, operations, kinds };
}

/** The kind an answered schema stands for is the last part of its name: `restart` takes RestartOptions and answers a NodeOperation. */
function kindOf(schema: TObject, otherwise: string): string {
  const { $id } = schema as { $id?: string };
  return $id?.slice($id.lastIndexOf('.') + 1) ?? otherwise;
}

function listSchema(resource: ApiResource): TObject {
  const { $id } = resource.schema as { $id?: string };
  if ($id === undefined) throw new Error(`the schema of ${resource.plural} has no $id`);
  return Type.Object(
    {
      apiVersion: Type.Optional(Type.String({ description: 'Version of the schema.' })),
      kind: Type.Optional(Type.String({ description: `${resource.kind}List.` })),
      metadata: Type.Optional(ListMeta),
      items: Type.Array(resource.schema, { description: 'The objects.' }),
    },
    { $id: `${$id}List`, description: `A list of ${resource.kind} objects.` },
  );
}

const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);
const pathOf = (r: ApiResource) => `/apis/${r.group}/${r.version}/${r.plural}`;
const idOf = (r: ApiResource) => [...r.group.split(/[.-]/), r.version].map(capital).join('') + r.kind;

function objectOperations(resource: ApiResource, list: TObject): Operation[] {
  const { group, version, kind, plural } = resource;
  const common = { method: 'get' as const, gvk: { group, version, kind }, code: 200, produces: OBJECT_TYPES, consumes: [] };
  return [
    {
      ...common,
      path: pathOf(resource),
      id: `list${idOf(resource)}`,
      summary: `list or watch objects of kind ${kind}`,
      action: 'list',
      parameters: LIST_PARAMETERS,
      named: false,
      response: list,
    },
    {
      ...common,
      path: `${pathOf(resource)}/{name}`,
      id: `read${idOf(resource)}`,
      summary: `read one of ${plural}`,
      action: 'get',
      parameters: [],
      named: true,
      response: resource.schema,
    },
  ];
}

/** HTTP method and operationId of each verb that changes something, as kube-apiserver has them. */
const CHANGES = {
  create: { method: 'post', word: 'create' },
  update: { method: 'put', word: 'replace' },
  patch: { method: 'patch', word: 'patch' },
  delete: { method: 'delete', word: 'delete' },
} as const;

function subresourceOperations(resource: ApiResource, subresource: Subresource): Operation[] {
  const { group, version } = resource;
  const { get, response } = subresource;
  const common = {
    path: `${pathOf(resource)}/{name}/${subresource.name}`,
    gvk: { group, version, kind: subresource.kind },
    named: true,
  };
  const suffix = idOf(resource) + capital(subresource.name);
  const operations: Operation[] = [];
  if (get) {
    operations.push({
      ...common,
      ...(response && { response }),
      method: 'get',
      id: `read${suffix}`,
      summary: get.summary,
      action: 'get',
      parameters: (get.parameters ?? []).map(parameter),
      code: 200,
      consumes: [],
      produces: get.produces ? [get.produces].flat() : response ? OBJECT_TYPES : ['text/plain'],
    });
  }
  for (const verb of CHANGE_VERBS) {
    const change = subresource[verb];
    if (!change) continue;
    const { method, word } = CHANGES[verb];
    const { body, consumes = BODY_TYPES } = change;
    const answered = change.response ?? response;
    operations.push({
      ...common,
      ...(answered && { response: answered }),
      method,
      id: `${word}${suffix}`,
      summary: change.summary,
      action: method,
      parameters: byName([
        ...(body || verb === 'create' ? CREATE_PARAMETERS : []),
        ...(body ? bodyParameters(body) : []),
        ...(change.parameters ?? []).map(parameter),
      ]),
      code: change.code,
      consumes: body ? consumes : [],
      produces: answered ? OBJECT_TYPES : ['text/plain'],
      ...(body && { body }),
    });
  }
  return operations;
}

function parameter({ name, description, type, enum: values }: QueryParameter): Parameter {
  const schema = type === 'boolean' ? flag : type === 'integer' ? whole : Type.String(values ? { enum: values } : {});
  return { name, description, schema };
}

/** Every scalar field of a body may stand in the query instead. */
function bodyParameters(body: TObject): Parameter[] {
  return queryFields(body).map(({ name, schema }) => {
    const { description = '' } = schema as { description?: string };
    return { name, description, schema };
  });
}

/** A later parameter of the same name replaces the earlier one. */
function byName(parameters: Parameter[]): Parameter[] {
  return [...new Map(parameters.map((one) => [one.name, one])).values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
