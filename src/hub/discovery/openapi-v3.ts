import type { TSchema } from 'typebox';
import { type Components, type OpenApiSchema, openApiSchema } from './openapi-schema.ts';
import { type Description, type Operation, type Parameter, PRETTY } from './operations.ts';
import { StatusSchema } from './status-schema.ts';

export type OpenApiV3 = {
  openapi: '3.0.0';
  info: { title: string; version: string };
  paths: Record<string, Record<string, unknown>>;
  components: { schemas: Record<string, OpenApiSchema> };
};

/** The OpenAPI 3.0 document of one group version, in the form that kube-apiserver gives its own. `version` is the server's. */
export function openApiV3(description: Description, version: string): OpenApiV3 {
  const components: Components = { prefix: '#/components/schemas/', schemas: new Map() };
  const paths: OpenApiV3['paths'] = {};
  for (const operation of description.operations) {
    const item = paths[operation.path] ?? {
      parameters: [...(operation.named ? [nameParameter(operation)] : []), queryParameter(PRETTY, components)],
    };
    item[operation.method] = operationObject(operation, components);
    paths[operation.path] = item;
  }
  return {
    openapi: '3.0.0',
    info: { title: 'Fairlead', version },
    paths,
    components: { schemas: namedSchemas(components, description) },
  };
}

/** The components by name, each with the kinds it stands for. */
export function namedSchemas(components: Components, { kinds }: Description): Record<string, OpenApiSchema> {
  const sorted = [...components.schemas].sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(
    sorted.map(([name, schema]) => {
      const gvks =
        kinds.get(name) ?? (name === (StatusSchema as { $id?: string }).$id ? [{ group: '', version: 'v1', kind: 'Status' }] : []);
      return [name, gvks.length > 0 ? { ...schema, 'x-kubernetes-group-version-kind': gvks } : schema];
    }),
  );
}

function nameParameter(operation: Operation): object {
  const schema = { type: 'string', uniqueItems: true };
  return { name: 'name', in: 'path', required: true, description: `name of the object (${operation.path.split('/')[4]})`, schema };
}

function queryParameter({ name, description, schema }: Parameter, components: Components): object {
  const { description: _, ...bare } = openApiSchema(schema, components);
  return { name, in: 'query', description, schema: bare };
}

function content(types: readonly string[], schema: OpenApiSchema): object {
  return Object.fromEntries(types.map((type) => [type, { schema }]));
}

function operationObject(operation: Operation, components: Components): object {
  const { response, body, produces } = operation;
  const reference = (schema: TSchema) => openApiSchema(schema, components);
  const status = content(['application/json'], reference(StatusSchema));
  const answered = content(produces, response ? reference(response) : { type: 'string' });
  return {
    tags: [`${operation.gvk.group}_${operation.gvk.version}`],
    description: operation.summary,
    operationId: operation.id,
    parameters: operation.parameters.map((one) => queryParameter(one, components)),
    ...(body && { requestBody: { content: content(operation.consumes, reference(body)) } }),
    responses: {
      // A dry run, and a request that was made before, create nothing.
      200: { description: 'OK', content: answered },
      ...(operation.code === 201 && { 201: { description: 'Created', content: answered } }),
      401: { description: 'Unauthorized', content: status },
      default: { description: 'Error', content: status },
    },
    'x-kubernetes-action': operation.action,
    'x-kubernetes-group-version-kind': operation.gvk,
  };
}
