import { expect, test } from 'vitest';
import { authorisedName, parseTarget, requestInfo } from '../../../src/hub/http/request-info.ts';
import { StatusError } from '../../../src/kube/status.ts';

const BASE = '/apis/infraops.michael.io/v1';

function info(method: string, url: string) {
  const target = parseTarget(url);
  return authorisedName(requestInfo(method, target), target.query);
}
/** What is authorised, in one line; the status code when the path is refused. */
function short(method: string, url: string): string {
  try {
    const found = info(method, url);
    if (found.kind === 'nonResource') return `path ${found.verb} ${found.path}`;
    const { verb, group, version, resource, name, subresource, rest } = found;
    return `${verb} ${group}/${version} ${resource}|${name}|${subresource}|${rest}`;
  } catch (error) {
    if (error instanceof StatusError) return String(error.status.code);
    throw error;
  }
}
const ours = (verb: string, rest: string) => `${verb} infraops.michael.io/v1 ${rest}`;

test.each([
  ['GET', '/nodes', 'list', 'nodes|||'],
  ['HEAD', '/nodes', 'list', 'nodes|||'],
  ['GET', '/nodes?watch=true', 'watch', 'nodes|||'],
  ['GET', '/nodes?watch=1', 'watch', 'nodes|||'],
  ['GET', '/nodes?watch', 'watch', 'nodes|||'],
  ['GET', '/nodes?watch=yes', 'watch', 'nodes|||'],
  ['GET', '/nodes?watch=false', 'list', 'nodes|||'],
  ['GET', '/nodes?watch=false&watch=true', 'list', 'nodes|||'],
  ['GET', '/nodes/n1', 'get', 'nodes|n1||'],
  ['GET', '/nodes/n1?watch=true', 'get', 'nodes|n1||'],
  ['GET', '/nodes/n1/', 'get', 'nodes|n1||'],
  ['POST', '/nodes/n1/restart', 'create', 'nodes|n1|restart|'],
  ['POST', '/nodes/n1/restart/', 'create', 'nodes|n1|restart|'],
  ['POST', '/nodes', 'create', 'nodes|||'],
  ['PUT', '/nodes/n1', 'update', 'nodes|n1||'],
  ['PATCH', '/nodes/n1', 'patch', 'nodes|n1||'],
  ['DELETE', '/nodes/n1', 'delete', 'nodes|n1||'],
  ['DELETE', '/nodes', 'deletecollection', 'nodes|||'],
  ['GET', '/nodes/n%31', 'get', 'nodes|n1||'],
  ['GET', '/%6eodes/n1', 'get', 'nodes|n1||'],
  ['GET', '/nodes/n1;x=y', 'get', 'nodes|n1;x=y||'],
  ['GET', '/nodes/a%3Fb', 'get', 'nodes|a?b||'],
  ['GET', '/nodes/n1/restart/more/../still', 'get', 'nodes|n1|restart|more/../still'],
  ['GET', '/nodes?fieldSelector=metadata.name%3Dn1', 'list', 'nodes|n1||'],
  ['GET', '/nodes?watch=true&fieldSelector=metadata.name%3D%3Dn1', 'watch', 'nodes|n1||'],
  ['GET', '/nodes?fieldSelector=metadata.name%3Dn1&fieldSelector=metadata.name%3Dn2', 'list', 'nodes|||'],
  ['GET', '/nodes?fieldSelector=metadata.name%3Dn1,spec.unschedulable%3Dtrue', 'list', 'nodes|||'],
  ['GET', '/nodes?fieldSelector=metadata.name!%3Dn1', 'list', 'nodes|||'],
])('%s %s is %s of %s', (method, url, verb, rest) => {
  expect(short(method, BASE + url)).toBe(ours(verb, rest));
});

// Whatever two parsers could read differently is refused, not interpreted.
test.each([
  ['an empty name', `${BASE}/nodes//restart`],
  ['an empty group', '/apis//v1/nodes/n1'],
  ['an empty version', '/apis/infraops.michael.io//nodes/n1'],
  ['an encoded slash in the name', `${BASE}/nodes/n1%2Frestart`],
  ['an encoded slash in small letters', `${BASE}/nodes/n1%2frestart`],
  ['an encoded slash in the resource', `${BASE}/nodes%2Fn1/restart`],
  ['a double encoding', `${BASE}/nodes/n1%252Frestart`],
  ['..', `${BASE}/nodes/../nodes/n1`],
  ['encoded ..', `${BASE}/nodes/%2e%2e/restart`],
  ['mixed ..', `${BASE}/nodes/.%2E/restart`],
  ['.', `${BASE}/nodes/./restart`],
  ['encoded .', `${BASE}/nodes/%2e/restart`],
  ['.. in the group', '/apis/../v1/nodes'],
  ['NUL', `${BASE}/nodes/n1%00`],
  ['a line end', `${BASE}/nodes/n1%0a`],
  ['DEL', `${BASE}/nodes/n1%7f`],
  ['a C1 control character', `${BASE}/nodes/n1%c2%85`],
  ['a backslash', `${BASE}/nodes/n1\\restart`],
  ['an encoded backslash', `${BASE}/nodes/n1%5crestart`],
  ['a broken escape', `${BASE}/nodes/n1%`],
  ['another broken escape', `${BASE}/nodes/n1%zz`],
  ['bytes that are no UTF-8', `${BASE}/nodes/n1%ff`],
  ['an overlong slash', `${BASE}/nodes/n1%c0%af`],
])('%s is refused with 400', (_, url) => {
  for (const method of ['GET', 'POST']) expect(short(method, url)).toBe('400');
});

test.each([
  ['/', 'path get /'],
  ['//apis/infraops.michael.io/v1/nodes', 'path get //apis/infraops.michael.io/v1/nodes'],
  ['/apis', 'path get /apis'],
  ['/apis/infraops.michael.io/v1', 'path get /apis/infraops.michael.io/v1'],
  ['/apis/infraops.michael.io/v1/', 'path get /apis/infraops.michael.io/v1/'],
  ['/APIS/infraops.michael.io/v1/nodes', 'path get /APIS/infraops.michael.io/v1/nodes'],
  ['/%61pis/infraops.michael.io/v1/nodes', 'path get /%61pis/infraops.michael.io/v1/nodes'],
  ['/api/v1/nodes', 'path get /api/v1/nodes'],
  ['/metrics?x=/apis', 'path get /metrics'],
  ['http://other/apis/infraops.michael.io/v1/nodes', 'path get http://other/apis/infraops.michael.io/v1/nodes'],
  ['*', 'path get *'],
  ['', 'path get '],
])('%j is no resource of ours: it is authorised as the path that it is', (url, wanted) => {
  expect(short('GET', url)).toBe(wanted);
});

test('regression: methods without a meaning were 400, not 405', () => {
  for (const method of ['OPTIONS', 'TRACE', 'PROPFIND', 'post']) expect(short(method, `${BASE}/nodes/n1`)).toBe('405');
  // The path comes first.
  expect(short('OPTIONS', `${BASE}/nodes/..`)).toBe('400');
});
