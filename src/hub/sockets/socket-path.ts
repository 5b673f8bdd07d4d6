import { badRequest, methodNotAllowed, pathNotFound } from '../../kube/status.ts';
import { AGENT_AUTHORITY, DIRECT_AUTHORITY, SOCKETS_API } from '../../tunnel/protocol.ts';
import { parseTarget, refused } from '../../tunnel/target.ts';
import { TargetError } from '../../tunnel/target-error.ts';
import type { ResourceInfo, Verb } from '../http/resource.ts';
import { targetFailure } from './target-failure.ts';

const PREFIX = `${SOCKETS_API}/sockets/`;

/** What a path under `sockets/` asks for. `path` is what the target gets, untouched, with its query. */
export type SocketRequest =
  | { kind: 'attach'; id: string }
  | { kind: 'socket'; id: string }
  | { kind: 'proxy'; id: string; scheme: string; authority: string; path: string };

/** Whether this target belongs to the sockets. */
export const isSocketPath = (url: string | undefined): boolean => url?.startsWith(PREFIX) ?? false;

/**
 * Reads a request target without decoding it: `sockets/<id>`, `sockets/<id>/attach`, `sockets/<id>/proxy/direct/<path>`,
 * `sockets/<id>/proxy/(http|https)/<host[:port]>/<path>`, and clusternet v0.1's form of the latter without `/proxy`. Throws StatusError 400, 403 (a target that two
 * parsers could read differently) or 404. An empty path of the target is `/`.
 */
export function parseSocketPath(url: string): SocketRequest {
  const mark = url.indexOf('?');
  const query = mark < 0 ? '' : url.slice(mark);
  const path = mark < 0 ? url : url.slice(0, mark);
  const [id = '', first, ...rest] = path.slice(PREFIX.length).split('/');
  // Ids are UUIDs or machine ids: nothing that would need an escape, so that nobody reads another name than we do.
  if (!/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(id)) throw badRequest('the path has no valid cluster id after sockets/');
  if (first === undefined || (first === '' && rest.length === 0)) return { kind: 'socket', id };
  if (first === 'attach' && (rest.length === 0 || (rest.length === 1 && rest[0] === ''))) return { kind: 'attach', id };
  if (first === 'proxy') {
    const [how, ...further] = rest;
    if (how === DIRECT_AUTHORITY)
      return { kind: 'proxy', id, scheme: 'https', authority: DIRECT_AUTHORITY, path: `/${further.join('/')}${query}` };
    if (how === 'http' || how === 'https') return toTarget(id, how, further, query);
  }
  if (first === 'http' || first === 'https') return toTarget(id, first, rest, query);
  throw pathNotFound();
}

function toTarget(id: string, scheme: string, [authority, ...further]: readonly string[], query: string): SocketRequest {
  if (authority === undefined || authority === '') throw badRequest(`the path has no host after /${scheme}/`);
  try {
    const { host } = parseTarget(scheme, authority);
    // In the tunnel these names are no hosts: they would reach the agent itself.
    if (host === AGENT_AUTHORITY || host === DIRECT_AUTHORITY) throw refused(authority, 'the name is reserved');
  } catch (error) {
    throw error instanceof TargetError ? targetFailure(error) : error;
  }
  return { kind: 'proxy', id, scheme, authority, path: `/${further.join('/')}${query}` };
}

const VERBS: Record<string, Verb> = {
  GET: 'get',
  HEAD: 'get',
  OPTIONS: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/**
 * What RBAC is asked for: the verb of the method on `sockets/proxy`, `create` for every upgrade (an exec over WebSocket is a GET), `create` on `sockets/attach`,
 * `get` on `sockets` as clusternet's agents have it.
 */
export function socketInfo(method: string, path: string, request: SocketRequest, isUpgrade: boolean): ResourceInfo {
  const verb =
    request.kind === 'attach' || (request.kind === 'proxy' && isUpgrade) ? 'create' : request.kind === 'socket' ? 'get' : VERBS[method];
  if (!verb) throw methodNotAllowed(method.slice(0, 32));
  return {
    kind: 'resource',
    path,
    verb,
    group: 'proxies.clusternet.io',
    version: 'v1alpha1',
    resource: 'sockets',
    name: request.id,
    subresource: request.kind === 'socket' ? '' : request.kind,
    rest: '',
  };
}
