import { randomUUID } from 'node:crypto';
import { AGENT_API } from '../../../kube/lifecycle.ts';
import { badRequest, methodNotAllowed, StatusError, unsupportedMediaType } from '../../../kube/status.ts';
import { CommandError } from '../machine/machine.ts';
import type { LifecycleMetrics } from '../metrics.ts';
import { StepError } from '../operations/step.ts';
import { openApiDocument } from './openapi.ts';
import type { ApiAnswer, ApiRequest } from './request.ts';
import { ROUTES, type Route, YAML_TYPES } from './routes.ts';
import type { LifecycleService } from './service.ts';

/** Answers what belongs to the lifecycle; undefined: it is none of these paths. Never rejects. */
export type LifecycleApi = (request: ApiRequest) => Promise<ApiAnswer | undefined>;

const DOCUMENT_PATHS: readonly string[] = ['/openapi/v3', '/openapi.json'];
/** Aliases in a YAML body are not expanded without end. */
const MAX_ALIASES = 100;

export function lifecycleApi(given: {
  service: LifecycleService;
  metrics: LifecycleMetrics;
  /** Of the cluster, for the metrics of requests. */
  cluster: () => { clusterType: string; version: string };
  /** Ends answers that follow. */
  signal: AbortSignal;
  onError: (error: unknown) => void;
}): LifecycleApi {
  const { service, metrics, cluster, onError } = given;
  const routes = new Map<string, Route[]>();
  for (const route of ROUTES) routes.set(route.path, [...(routes.get(route.path) ?? []), route]);

  async function answer(request: ApiRequest, path: string, query: URLSearchParams): Promise<ApiAnswer> {
    if (DOCUMENT_PATHS.includes(path)) {
      if (request.method !== 'GET') throw methodNotAllowed(request.method);
      return json(200, openApiDocument());
    }
    const found = routes.get(path);
    if (!found) throw new StatusError(404, 'NotFound', `the agent has no ${path.slice(0, 200)}`);
    const route = found.find(({ method }) => method === request.method);
    if (!route) throw methodNotAllowed(request.method.slice(0, 20));
    const dryRun = dryRunOf(query, route);
    const { requester } = request;
    const signal = route.answer === 'text' ? AbortSignal.any([request.signal, given.signal]) : request.signal;
    const body = route.takes ? await parsed(request, route.takes) : undefined;
    const call = { body, change: { requester, dryRun }, requester, query, signal };
    if (route.answer === 'text') return { code: 200, contentType: 'text/plain; charset=utf-8', lines: route.lines(service, call) };
    const result = await route.call(service, call);
    const begun = route.changes && !dryRun && isBegunBy(requester.auditID, result);
    return json(begun ? route.success : 200, result);
  }

  return async (request) => {
    const [path = '', search = ''] = split(request.target);
    if (path !== AGENT_API && !path.startsWith(`${AGENT_API}/`) && !DOCUMENT_PATHS.includes(path)) return undefined;
    const began = performance.now();
    const answered = await answer(request, path, new URLSearchParams(search)).catch((error: unknown) => failure(error, onError));
    const known = routes.has(path) || DOCUMENT_PATHS.includes(path);
    metrics.request({
      ...cluster(),
      code: answered.code,
      method: known ? request.method.slice(0, 10) : 'other',
      path: known ? path : 'other',
      seconds: (performance.now() - began) / 1_000,
    });
    return answered;
  };
}

function split(target: string): [path: string, search: string] {
  const at = target.indexOf('?');
  return at < 0 ? [target, ''] : [target.slice(0, at), target.slice(at + 1)];
}

function dryRunOf(query: URLSearchParams, { changes }: Route): boolean {
  const values = query.getAll('dryRun');
  if (values.length === 0) return false;
  if (values.length > 1 || values[0] !== 'All') throw badRequest('dryRun must be All, once, or be left out');
  if (!changes) throw badRequest('dryRun is for requests that change something');
  return true;
}

async function parsed({ contentType, body }: ApiRequest, takes: readonly string[]): Promise<unknown> {
  if (contentType !== '' && !takes.includes(contentType))
    throw unsupportedMediaType(`the body must be of one of these types: ${takes.join(', ')}`);
  const text = body.toString('utf8');
  try {
    if (!YAML_TYPES.includes(contentType)) return JSON.parse(text);
    const { parse } = await import('yaml');
    return parse(text, { maxAliasCount: MAX_ALIASES });
  } catch {
    // The parser's own words would repeat a part of the body, which may hold a password.
    throw badRequest(`the body is not ${YAML_TYPES.includes(contentType) ? 'YAML' : 'JSON'}`);
  }
}

/** Whether the operation that the answer shows is the one that this request began. */
function isBegunBy(auditID: string, result: object): boolean {
  const { status } = result as { status?: { operation?: { auditID?: string } } };
  return status?.operation?.auditID === auditID;
}

const json = (code: number, body: object): ApiAnswer => ({ code, contentType: 'application/json', body: `${JSON.stringify(body)}\n` });

function failure(error: unknown, onError: (error: unknown) => void): ApiAnswer {
  const known = toStatus(error);
  if (known) return json(known.status.code, known.status);
  const id = randomUUID();
  onError(new Error(`${id}: ${error instanceof Error ? error.message : String(error)}`, { cause: error }));
  return json(500, new StatusError(500, 'InternalError', `Internal error occurred; the log of the agent has it under id ${id}`).status);
}

function toStatus(error: unknown): StatusError | undefined {
  if (error instanceof StatusError) return error;
  if (error instanceof StepError)
    return new StatusError(409, 'Conflict', error.nextCommand ? `${error.message}; next: ${error.nextCommand}` : error.message);
  if (error instanceof CommandError) return new StatusError(500, 'InternalError', error.message);
  return undefined;
}
