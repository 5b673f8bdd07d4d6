import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { groupVersions } from '../../../src/hub/discovery/documents.ts';
import { openApiDocuments, openApiHandler } from '../../../src/hub/discovery/openapi-handler.ts';
import { openApiSchema } from '../../../src/hub/discovery/openapi-schema.ts';
import { openApiV2 } from '../../../src/hub/discovery/openapi-v2.ts';
import { openApiV3 } from '../../../src/hub/discovery/openapi-v3.ts';
import { describe as describeApi } from '../../../src/hub/discovery/operations.ts';
import { resources } from './resources.ts';
import { serve } from './serve.ts';

type Json = { [key: string]: unknown };
type Gvk = { group: string; version: string; kind: string };
type Operation = { operationId: string; parameters: { name: string }[]; responses: Json; 'x-kubernetes-group-version-kind': Gvk };

const descriptions = groupVersions(resources).map(describeApi);
const v3 = descriptions.map((description) => openApiV3(description, 'v0.0.0'));
const v2 = openApiV2(descriptions, 'v0.0.0');
const [first] = v3;
if (!first) throw new Error('no document');

function walk(value: unknown, visit: (node: Json, path: string) => void, path = '#'): void {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) visit(value as Json, path);
  for (const [key, child] of Object.entries(value)) walk(child, visit, `${path}/${key}`);
}

function resolve(document: unknown, reference: string): unknown {
  return reference
    .slice(2)
    .split('/')
    .reduce<unknown>((at, key) => (at as Json | undefined)?.[key], document);
}

function operationAt(paths: Record<string, Json>, path: string, method = 'post'): Json {
  const operation = paths[path]?.[method];
  if (typeof operation !== 'object' || operation === null) throw new Error(`no ${method} of ${path}`);
  return operation as Json;
}

const SCHEMA_KEYS = new Set([
  ...['type', 'format', 'description', 'enum', 'properties', 'required', 'items', 'additionalProperties', 'minimum', 'maximum'],
  ...['minLength', 'maxLength', 'minItems', 'maxItems', 'pattern', 'default', 'uniqueItems', '$ref', 'x-kubernetes-group-version-kind'],
]);

function checkSchema(schema: Json, path: string): void {
  for (const key of Object.keys(schema)) expect(SCHEMA_KEYS, `${path} has ${key}`).toContain(key);
  if (schema['$ref'] !== undefined) return void expect(Object.keys(schema)).toEqual(['$ref']);
  expect(['object', 'array', 'string', 'integer', 'number', 'boolean'], path).toContain(schema['type']);
  if (schema['type'] === 'array') expect(schema['items'], path).toBeDefined();
  for (const [name, child] of Object.entries((schema['properties'] as Json | undefined) ?? {}))
    checkSchema(child as Json, `${path}.${name}`);
  for (const key of ['items', 'additionalProperties']) if (schema[key]) checkSchema(schema[key] as Json, `${path}.${key}`);
}

const everyDocument: [string, unknown, Record<string, Json>][] = [
  ...v3.map((document, index): [string, unknown, Record<string, Json>] => [`v3 of group ${index}`, document, document.components.schemas]),
  ['v2', v2, v2.definitions],
];

test.each(everyDocument)(
  '%s: every $ref leads somewhere and every schema uses only what OpenAPI 3.0 and Swagger 2.0 share',
  (_, document, schemas) => {
    let references = 0;
    walk(document, (node, path) => {
      if (typeof node['$ref'] !== 'string') return;
      references++;
      expect(resolve(document, node['$ref']), `${path}: ${node['$ref']}`).toBeTypeOf('object');
    });
    expect(references).toBeGreaterThan(10);
    for (const [name, schema] of Object.entries(schemas)) checkSchema(schema, name);
  },
);

test.each(everyDocument)('%s: operationIds are unique, operations have a kind, path parameters are declared', (_, document) => {
  const paths = (document as { paths: Record<string, Json> }).paths;
  const ids: string[] = [];
  for (const [path, item] of Object.entries(paths)) {
    const declared = (item['parameters'] as { name: string; in: string }[]).filter((one) => one.in === 'path').map((one) => one.name);
    expect(declared).toEqual(path.includes('{name}') ? ['name'] : []);
    for (const method of ['get', 'post', 'put', 'patch', 'delete']) {
      const operation = item[method] as Operation | undefined;
      if (!operation) continue;
      ids.push(operation.operationId);
      expect(operation['x-kubernetes-group-version-kind'].kind).toMatch(/^[A-Z]/);
      expect(operation.responses).toHaveProperty('401');
      expect(operation.responses).toHaveProperty('default');
      const names = operation.parameters.map((one) => one.name);
      expect(new Set(names).size, path).toBe(names.length);
    }
  }
  expect(new Set(ids).size).toBe(ids.length);
});

test('kubectl explain finds each kind: the collection path and a component with the same group, version and kind', () => {
  for (const [plural, kind] of [
    ['nodes', 'InfraNode'],
    ['nodeoperations', 'NodeOperation'],
    ['clusters', 'InfraCluster'],
  ]) {
    const operation = first.paths[`/apis/infraops.michael.io/v1/${plural}`]?.['get'] as Operation;
    expect(operation['x-kubernetes-group-version-kind']).toEqual({ group: 'infraops.michael.io', version: 'v1', kind });
    const component = Object.values(first.components.schemas).filter((schema) =>
      (schema['x-kubernetes-group-version-kind'] as Gvk[] | undefined)?.some((gvk) => gvk.kind === kind),
    );
    expect(component).toHaveLength(1);
  }
});

test('every field of the options is a query parameter too, with its bounds; dryRun may repeat', () => {
  const path = '/apis/infraops.michael.io/v1/nodes/{name}/restart';
  const { parameters } = operationAt(first.paths, path) as unknown as { parameters: { name: string; schema: Json }[] };
  const byName = Object.fromEntries(parameters.map((one) => [one.name, one.schema]));
  expect(byName['hard']).toEqual({ type: 'boolean' });
  expect(byName['gracePeriodSeconds']).toEqual({ type: 'integer', minimum: -1, maximum: 86_400 });
  expect(byName['dryRun']).toEqual({ type: 'array', maxItems: 1, items: { type: 'string', enum: ['All'] } });
  expect(Object.keys(byName)).toEqual(expect.arrayContaining(['fieldValidation', 'fieldManager', 'requestID']));
  expect(byName).not.toHaveProperty('metadata');
  const swagger = operationAt(v2.paths, path) as unknown as { parameters: Json[] };
  expect(swagger.parameters.find((one) => one['name'] === 'dryRun')).toMatchObject({
    type: 'array',
    in: 'query',
    collectionFormat: 'multi',
  });
  expect(swagger.parameters[0]).toMatchObject({ in: 'body', schema: { $ref: '#/definitions/io.michael.infraops.v1.RestartOptions' } });
});

test('a keyword that would get lost is refused at start', () => {
  const components = () => ({ prefix: '#/', schemas: new Map() });
  expect(() => openApiSchema(Type.String({ contentEncoding: 'base64' }), components())).toThrow('contentEncoding');
  expect(() => openApiSchema(Type.Union([Type.String(), Type.Integer()]), components())).toThrow('anyOf');
  expect(openApiSchema(Type.Union([Type.Literal('a'), Type.Literal('b')], { description: 'd' }), components())).toEqual({
    description: 'd',
    type: 'string',
    enum: ['a', 'b'],
  });
});

test('index, hash, ETag and caching; a stale hash is answered, never redirected', async () => {
  await using hub = await serve(openApiHandler(openApiDocuments(resources, 'v0.0.0')));
  const index = JSON.parse((await hub.get('/openapi/v3')).body);
  expect(Object.keys(index.paths)).toEqual(['apis/infraops.michael.io/v1', 'apis/proxies.example.org/v1alpha1']);
  const url: string = index.paths['apis/infraops.michael.io/v1'].serverRelativeURL;
  expect(url).toMatch(/^\/openapi\/v3\/apis\/infraops\.michael\.io\/v1\?hash=[0-9A-F]{128}$/);
  const current = await hub.get(url, { accept: 'application/json' });
  expect(current.headers['cache-control']).toBe('public, immutable');
  expect(Date.parse(current.headers.expires ?? '')).toBeGreaterThan(Date.now() + 300 * 86_400_000);
  expect(JSON.parse(current.body)).toEqual(JSON.parse(JSON.stringify(first)));
  const stale = await hub.get('/openapi/v3/apis/infraops.michael.io/v1?hash=00', { accept: 'application/json' });
  expect(stale).toMatchObject({ code: 200, headers: { 'cache-control': 'no-cache', etag: current.headers.etag }, body: current.body });
  const known = await hub.get(url, { 'if-none-match': current.headers.etag ?? '' });
  expect(known).toMatchObject({ code: 304, body: '' });
  const swagger = await hub.get('/openapi/v2', { accept: 'application/json' });
  expect(JSON.parse(swagger.body).swagger).toBe('2.0');
  expect(swagger.headers.etag).toMatch(/^"[0-9A-F]{128}"$/);
});

test('who takes only protobuf gets a 406 Status', async () => {
  await using hub = await serve(openApiHandler(openApiDocuments(resources, 'v0.0.0')));
  for (const path of ['/openapi/v2', '/openapi/v3', '/openapi/v3/apis/infraops.michael.io/v1']) {
    const answer = await hub.get(path, { accept: 'application/com.github.proto-openapi.spec.v3@v1.0+protobuf' });
    expect(JSON.parse(answer.body)).toMatchObject({ kind: 'Status', code: 406, reason: 'NotAcceptable' });
  }
  expect((await hub.get('/openapi/v3', {}, 'DELETE')).code).toBe(405);
});

test('changes other than POST have their own operations, bodies and answers', () => {
  const path = '/apis/infraops.michael.io/v1/clusters/{name}/lifecycle';
  for (const paths of [first.paths, v2.paths]) {
    for (const [method, id] of [
      ['get', 'read'],
      ['post', 'create'],
      ['put', 'replace'],
      ['patch', 'patch'],
      ['delete', 'delete'],
    ] as const) {
      expect(operationAt(paths, path, method)).toMatchObject({
        operationId: `${id}InfraopsMichaelIoV1InfraClusterLifecycle`,
        'x-kubernetes-action': method,
        'x-kubernetes-group-version-kind': { kind: 'ClusterLifecycle' },
      });
    }
  }
  expect(Object.keys((operationAt(first.paths, path, 'patch') as { requestBody: { content: object } }).requestBody.content)).toEqual([
    'application/merge-patch+json',
    'application/json',
  ]);
  expect(operationAt(v2.paths, path, 'patch')).toMatchObject({ consumes: ['application/merge-patch+json', 'application/json'] });
  const rotated = operationAt(first.paths, '/apis/infraops.michael.io/v1/clusters/{name}/certs', 'delete');
  expect(JSON.stringify(rotated)).toContain('io.michael.infraops.v1.ClusterLifecycle');
});
