import { type Components, type OpenApiSchema, openApiSchema } from './openapi-schema.ts';
import { namedSchemas } from './openapi-v3.ts';
import { type Description, type Operation, type Parameter, PRETTY } from './operations.ts';
import { StatusSchema } from './status-schema.ts';

export type OpenApiV2 = {
  swagger: '2.0';
  info: { title: string; version: string };
  paths: Record<string, Record<string, unknown>>;
  definitions: Record<string, OpenApiSchema>;
};

/** The Swagger 2.0 document of all group versions; kube-apiserver merges it into its own. `version` is the server's. */
export function openApiV2(descriptions: readonly Description[], version: string): OpenApiV2 {
  const components: Components = { prefix: '#/definitions/', schemas: new Map() };
  const paths: OpenApiV2['paths'] = {};
  const kinds: Description['kinds'] = new Map();
  for (const description of descriptions) {
    for (const [name, gvks] of description.kinds) kinds.set(name, [...(kinds.get(name) ?? []), ...gvks]);
    for (const operation of description.operations) {
      const item = paths[operation.path] ?? {
        parameters: [...(operation.named ? [nameParameter(operation)] : []), queryParameter(PRETTY, components)],
      };
      item[operation.method] = operationObject(operation, components);
      paths[operation.path] = item;
    }
  }
  return {
    swagger: '2.0',
    info: { title: 'Fairlead', version },
    paths,
    definitions: namedSchemas(components, { group: '', version: '', operations: [], kinds }),
  };
}

function nameParameter(operation: Operation): object {
  const description = `name of the object (${operation.path.split('/')[4]})`;
  return { name: 'name', in: 'path', required: true, description, type: 'string', uniqueItems: true };
}

/** Swagger 2.0 has the schema of a query parameter in the parameter itself. */
function queryParameter({ name, description, schema }: Parameter, components: Components): object {
  const { description: _, ...bare } = openApiSchema(schema, components);
  return { name, in: 'query', description, ...bare, ...(bare['type'] === 'array' && { collectionFormat: 'multi' }) };
}

function operationObject(operation: Operation, components: Components): object {
  const { body, response } = operation;
  const status = openApiSchema(StatusSchema, components);
  const answered = response ? openApiSchema(response, components) : { type: 'string' };
  const bodyParameter = body && { name: 'body', in: 'body', schema: openApiSchema(body, components) };
  return {
    tags: [`${operation.gvk.group}_${operation.gvk.version}`],
    description: operation.summary,
    operationId: operation.id,
    ...(body && { consumes: operation.consumes }),
    produces: operation.produces,
    parameters: [...(bodyParameter ? [bodyParameter] : []), ...operation.parameters.map((one) => queryParameter(one, components))],
    responses: {
      200: { description: 'OK', schema: answered },
      ...(operation.code === 201 && { 201: { description: 'Created', schema: answered } }),
      401: { description: 'Unauthorized', schema: status },
      default: { description: 'Error', schema: status },
    },
    'x-kubernetes-action': operation.action,
    'x-kubernetes-group-version-kind': operation.gvk,
  };
}
