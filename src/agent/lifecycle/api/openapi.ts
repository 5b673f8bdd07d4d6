import type { TSchema } from 'typebox';
import { VERSION } from '../../../kube/version.ts';
import { ROUTES, type Route } from './routes.ts';
import { schemas } from './schemas.ts';

const reference = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const json = (schema: object) => ({ 'application/json': { schema } });

/** The OpenAPI v3 document of the agent's API, made of the routes and the schemas that requests are read by. */
export function openApiDocument(): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of ROUTES) {
    const methods = paths[route.path] ?? {};
    methods[route.method.toLowerCase()] = operation(route);
    paths[route.path] = methods;
  }
  return {
    openapi: '3.0.3',
    info: { title: 'fairlead-agent', version: `v${VERSION}`, description: 'The lifecycle of the single-node cluster on one machine.' },
    paths,
    components: { schemas: Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, plain(schema)])) },
  };
}

function operation(route: Route): object {
  const { id, summary, success, takes, changes, answer } = route;
  const parameters = [
    ...(changes
      ? [
          {
            name: 'dryRun',
            in: 'query',
            description: 'All: answer what would be done, and change nothing.',
            schema: { type: 'string', enum: ['All'] },
          },
        ]
      : []),
    ...(answer === 'text'
      ? [{ name: 'follow', in: 'query', description: 'Whether to stay for lines to come.', schema: { type: 'boolean' } }]
      : []),
  ];
  const content = answer === 'text' ? { 'text/plain': { schema: { type: 'string' } } } : json(reference(answer));
  return {
    operationId: id,
    summary,
    ...(parameters.length > 0 && { parameters }),
    ...(takes && {
      requestBody: { required: true, content: Object.fromEntries(takes.map((type) => [type, { schema: reference('Cluster') }])) },
    }),
    responses: {
      [success]: { description: changes && success !== 200 ? 'It was begun, and goes on by itself.' : 'What was asked for.', content },
      // What needs no change, and a plan, are a 200.
      ...(changes && {
        200: {
          description: 'Nothing had to be done, or the plan of a dry run.',
          content: json({ oneOf: [reference('Cluster'), reference('OperationPlan')] }),
        },
      }),
      default: { description: 'An error.', content: json(reference('Status')) },
    },
  };
}

/** Without the names that only the program knows. */
function plain(schema: TSchema): unknown {
  return JSON.parse(JSON.stringify(schema, (key, value: unknown) => (key === '$id' ? undefined : value))) as unknown;
}
