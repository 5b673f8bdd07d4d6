import type { TSchema } from 'typebox';

/** A schema of OpenAPI 3.0 or Swagger 2.0, ready for JSON. */
export type OpenApiSchema = Record<string, unknown>;

/** Collects the schemas that have a name of their own. `prefix` is where references point: `#/components/schemas/` or `#/definitions/`. */
export type Components = { prefix: string; schemas: Map<string, OpenApiSchema> };

/** Keywords that mean the same in JSON Schema, OpenAPI 3.0 and Swagger 2.0. */
const COMMON = [
  'type',
  'format',
  'description',
  'default',
  'minimum',
  'maximum',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'pattern',
];
const KNOWN = new Set([...COMMON, '$id', 'properties', 'required', 'items', 'patternProperties', 'enum', 'const', 'anyOf']);

/**
 * Turns a TypeBox schema into one that kube-openapi reads (OpenAPI 3.0, and Swagger 2.0 alike): a schema with `$id` becomes a component and
 * a reference, `const` and `anyOf` of constants become `enum`, `patternProperties` becomes `additionalProperties`.
 * Throws for a keyword that it does not know: a silent loss would show only in kubectl.
 */
export function openApiSchema(schema: TSchema, components: Components): OpenApiSchema {
  const { $id } = schema as { $id?: string };
  if ($id === undefined) return convert(schema, components);
  if (!components.schemas.has($id)) {
    // The place is taken first, so that a schema may contain itself.
    components.schemas.set($id, {});
    components.schemas.set($id, convert(schema, components));
  }
  return { $ref: `${components.prefix}${$id}` };
}

function convert(schema: TSchema, components: Components): OpenApiSchema {
  const source = schema as Record<string, unknown>;
  for (const keyword of Object.keys(source)) {
    if (!KNOWN.has(keyword))
      throw new Error(`keyword ${keyword} has no place in the OpenAPI documents: ${JSON.stringify(source).slice(0, 200)}`);
  }
  const values = constants(source);
  if (values) {
    const [first] = values;
    const type = source['type'] ?? typeof first;
    return { ...(source['description'] !== undefined && { description: source['description'] }), type, enum: values };
  }
  if (source['anyOf']) throw new Error(`anyOf of other things than constants: ${JSON.stringify(source).slice(0, 200)}`);
  const result: OpenApiSchema = {};
  for (const keyword of COMMON) if (source[keyword] !== undefined) result[keyword] = source[keyword];
  const { properties, required, items, patternProperties } = source as {
    properties?: Record<string, TSchema>;
    required?: string[];
    items?: TSchema;
    patternProperties?: Record<string, TSchema>;
  };
  if (properties) {
    result['properties'] = Object.fromEntries(Object.entries(properties).map(([name, field]) => [name, openApiSchema(field, components)]));
  }
  if (required?.length) result['required'] = required;
  if (items) result['items'] = openApiSchema(items, components);
  const [rest] = Object.values(patternProperties ?? {});
  if (rest) result['additionalProperties'] = openApiSchema(rest, components);
  return result;
}

function constants(source: Record<string, unknown>): unknown[] | undefined {
  if (Array.isArray(source['enum'])) return source['enum'];
  if ('const' in source) return [source['const']];
  const { anyOf } = source;
  if (!Array.isArray(anyOf)) return undefined;
  const parts = anyOf.map((option: Record<string, unknown>) => constants(option));
  return parts.every((part) => part !== undefined) ? parts.flat() : undefined;
}
