import { badRequest, methodNotAllowed } from '../../kube/status.ts';
import type { RequestInfo, Verb } from './resource.ts';

/** A request target, split but not decoded. */
export type Target = { path: string; query: URLSearchParams };

export function parseTarget(url: string): Target {
  const mark = url.indexOf('?');
  return mark < 0
    ? { path: url, query: new URLSearchParams() }
    : { path: url.slice(0, mark), query: new URLSearchParams(url.slice(mark + 1)) };
}

const METHOD_VERBS: Record<string, Verb> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };

/**
 * What a request asks for, from its method and undecoded target, by the rules of kube-apiserver
 * (https://kubernetes.io/docs/reference/access-authn-authz/authorization/). A path that two parsers could read differently (empty, `.` or `..` segments, an encoded
 * slash in a name) is refused with StatusError 400: what is authorised must be what is acted on. What follows a subresource is not looked at.
 * A method that RBAC has no verb for is StatusError 405.
 */
export function requestInfo(method: string, { path, query }: Target): RequestInfo {
  const [empty, api, group, version, resource, name, subresource, ...rest] = path.split('/');
  if (empty !== '' || api !== 'apis' || resource === undefined || resource === '') {
    return { kind: 'nonResource', path, verb: method === 'HEAD' ? 'get' : method.toLowerCase() };
  }
  const parts = [group, version, resource, name, subresource].map((part) => (part === undefined ? undefined : segment(part)));
  // A trailing slash names the same object, as it does for kube-apiserver.
  while (parts.at(-1) === '' || parts.at(-1) === undefined) parts.pop();
  if (parts.includes('')) throw badRequest('the path has an empty segment');
  return {
    kind: 'resource',
    path,
    verb: verbOf(method, parts[3] ?? '', query),
    group: parts[0] ?? '',
    version: parts[1] ?? '',
    resource: parts[2] ?? '',
    name: parts[3] ?? '',
    subresource: parts[4] ?? '',
    rest: rest.join('/'),
  };
}

function verbOf(method: string, name: string, query: URLSearchParams): Verb {
  if (method === 'GET' || method === 'HEAD') {
    if (name !== '') return 'get';
    return isSet(query.get('watch')) ? 'watch' : 'list';
  }
  const verb = METHOD_VERBS[method];
  if (!verb) throw methodNotAllowed(method.slice(0, 32));
  return verb === 'delete' && name === '' ? 'deletecollection' : verb;
}

/** A boolean parameter as kube-apiserver reads it: only its absence, `false` and `0` are false. The Python client sends `watch=True`. */
const isSet = (value: string | null) => value !== null && value !== '0' && value.toLowerCase() !== 'false';

function segment(raw: string): string {
  let text: string;
  try {
    text = decodeURIComponent(raw);
  } catch {
    throw badRequest('the path is not valid percent-encoding');
  }
  if (text === '.' || text === '..' || /[/\\%\p{Cc}]/u.test(text)) throw badRequest('the path has a segment that is no name');
  return text;
}

/** The name that a list or watch is limited to by `fieldSelector=metadata.name=NAME`: kube-apiserver authorises those by name, and so must we. */
export function authorisedName(info: RequestInfo, query: URLSearchParams): RequestInfo {
  if (info.kind !== 'resource' || (info.verb !== 'list' && info.verb !== 'watch')) return info;
  const match = /^metadata\.name==?([^,=!\\]+)$/.exec(query.get('fieldSelector') ?? '');
  return match?.[1] && query.getAll('fieldSelector').length === 1 ? { ...info, name: match[1] } : info;
}
