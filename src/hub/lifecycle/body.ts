import { badRequest, invalid } from '../../kube/status.ts';
import { duplicateFields } from '../http/body.ts';
import { readOptions } from '../http/query-options.ts';
import type { BodyType, RequestContext } from '../http/resource.ts';
import { fieldValidation } from '../http/validate.ts';
import type { Call } from './call.ts';
import { API_VERSION, ClusterActionOptions, GROUP } from './schema.ts';

/** What an agent takes at most. */
const MAX_BYTES = 1024 * 1024;
/** kubeclusteragent's own words for the same object. */
const AGENT_KIND = { kind: 'Cluster', apiVersion: 'v1alpha1' };
export const PATCH_TYPES: readonly BodyType[] = ['application/merge-patch+json', 'application/json'];

/**
 * The body of a create or an upgrade, as JSON for the agent, which validates the spec. Kind and version may be ours (ClusterLifecycle, infraops.michael.io/v1),
 * kubeclusteragent's (Cluster, v1alpha1), or absent. Throws StatusError 400, 413 or 415.
 */
export async function lifecycleBody(context: RequestContext): Promise<NonNullable<Call['body']>> {
  const body = await context.body({ limit: MAX_BYTES, untypedYaml: true });
  const object = asObject(body, context);
  if (Object.keys(object).length === 0) throw badRequest('the body is empty: send the cluster that it shall be, with its spec');
  return { bytes: Buffer.from(JSON.stringify(object)), type: 'application/json' };
}

/** The body of a patch (JSON merge patch, RFC 7396). */
export async function patchBody(context: RequestContext): Promise<NonNullable<Call['body']>> {
  const body = await context.body({ limit: MAX_BYTES, types: PATCH_TYPES });
  const object = asObject(body, context);
  if (Object.keys(object).length === 0) throw badRequest('the patch is empty');
  return { bytes: Buffer.from(JSON.stringify(object)), type: 'application/merge-patch+json' };
}

function asObject(body: unknown, context: RequestContext): Record<string, unknown> {
  if (body === undefined || body === null) return {};
  if (typeof body !== 'object' || Array.isArray(body)) throw badRequest('the body is no object');
  const { apiVersion = '', kind = '', metadata } = body as { apiVersion?: unknown; kind?: unknown; metadata?: { name?: unknown } | null };
  const ours = kind === 'ClusterLifecycle' && (apiVersion === API_VERSION || apiVersion === '');
  const agents = kind === AGENT_KIND.kind && (apiVersion === AGENT_KIND.apiVersion || apiVersion === '');
  const unnamed = kind === '' && (apiVersion === '' || apiVersion === API_VERSION || apiVersion === AGENT_KIND.apiVersion);
  if (!ours && !agents && !unnamed) {
    throw badRequest(
      `${short(kind)} in version ${short(apiVersion)} cannot be handled as a ClusterLifecycle: kind is ClusterLifecycle in ${API_VERSION}, or Cluster in ${AGENT_KIND.apiVersion}`,
    );
  }
  const name = metadata?.name;
  if (ours && name !== undefined && name !== null && name !== context.info.name) {
    throw badRequest(`the name of the object (${short(name)}) does not match the name on the URL (${context.info.name})`);
  }
  const object = { group: GROUP, kind: 'clusters', name: context.info.name };
  const validation = fieldValidation(context.query, object);
  const twice = duplicateFields(body).slice(0, 64);
  if (validation === 'Strict' && twice.length > 0) {
    throw invalid(
      object,
      twice.map((field) => ({ reason: 'FieldValueDuplicate', message: 'the field stands twice', field: field.slice(0, 256) })),
    );
  }
  if (validation === 'Warn') for (const field of twice) context.warn(`duplicate field ${JSON.stringify(field.slice(0, 256))}`);
  return body as Record<string, unknown>;
}

const short = (value: unknown) => JSON.stringify(value)?.slice(0, 256) ?? '';

/** Whether the query asks for a dry run. Throws StatusError 422 for a value other than All: going on would do for real what was only to be tried. */
export function isDryRun({ query, info }: RequestContext): boolean {
  return onlyAll(query.getAll('dryRun'), info.name);
}

/** The same for a DELETE, which may have its options in a body (DeleteOptions of meta/v1). Throws StatusError 400 for preconditions: there is nothing to check them by. */
export async function isDryRunOfDelete(context: RequestContext): Promise<boolean> {
  const inQuery = isDryRun(context);
  const body = await context.body({ limit: MAX_BYTES });
  if (body === undefined || body === null) return inQuery;
  if (typeof body !== 'object' || Array.isArray(body)) throw badRequest('the body is no DeleteOptions');
  const { kind = 'DeleteOptions', dryRun = [], preconditions } = body as { kind?: unknown; dryRun?: unknown; preconditions?: unknown };
  if (kind !== 'DeleteOptions') throw badRequest(`${short(kind)} is no DeleteOptions`);
  if (preconditions !== undefined && preconditions !== null) throw badRequest('preconditions are not taken here');
  const inBody = onlyAll(Array.isArray(dryRun) ? dryRun : [dryRun], context.info.name);
  return inQuery || inBody;
}

function onlyAll(values: readonly unknown[], name: string): boolean {
  const wrong = values.find((value) => value !== 'All');
  if (wrong !== undefined) {
    const message = `Unsupported value: ${short(wrong)}: supported values: "All"`;
    throw invalid({ group: GROUP, kind: 'clusters', name }, [{ reason: 'FieldValueNotSupported', message, field: 'dryRun' }]);
  }
  return values.length > 0;
}

/** Whether an action (restart, repair) is only to be tried; its options stand in the query or in a body. Throws StatusError 400 or 422. */
export async function isDryRunOfAction(context: RequestContext): Promise<boolean> {
  const inQuery = isDryRun(context);
  const { value, warnings } = readOptions(ClusterActionOptions, await context.body({ limit: MAX_BYTES }), new URLSearchParams(), {
    kind: 'ClusterActionOptions',
    apiVersion: API_VERSION,
    object: { group: GROUP, kind: 'clusters', name: context.info.name },
  });
  for (const warning of warnings) context.warn(warning);
  return inQuery || (value.dryRun?.length ?? 0) > 0;
}
