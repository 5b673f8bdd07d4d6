import { methodNotAllowed, pathNotFound } from '../../kube/status.ts';
import type { ApiResource, Column, Handler, ResourceInfo, Subresource } from './resource.ts';

/** What answers one request. */
export type Route = { handler: Handler; columns: Column<never>[]; longRunning: boolean; mutating: boolean };

/** Finds the handler of a request. Throws StatusError 404 for a path that is not served and 405 for a method that is not. */
export type Routes = {
  find(info: ResourceInfo): Route;
  known(group: string, resource: string, subresource: string): boolean;
};

export function routes(resources: readonly ApiResource[]): Routes {
  const byName = new Map(resources.map((resource) => [`${resource.group}/${resource.plural}`, resource]));

  const lookup = (
    group: string,
    resource: string,
    subresource: string,
  ): { resource: ApiResource; sub: Subresource | undefined } | undefined => {
    const found = byName.get(`${group}/${resource}`);
    const sub = found?.subresources.find((candidate) => candidate.name === subresource);
    return found && (subresource === '' || sub) ? { resource: found, sub } : undefined;
  };

  return {
    known: (group, resource, subresource) => lookup(group, resource, subresource) !== undefined,
    find(info) {
      const found = lookup(info.group, info.resource, info.subresource);
      if (!found || found.resource.version !== info.version || info.rest !== '') throw pathNotFound();
      const { resource, sub } = found;
      if (sub) {
        const columns = sub.columns ?? resource.columns;
        if (info.verb === 'get' && sub.get)
          return { handler: sub.get.handler, columns, longRunning: sub.longRunning ?? false, mutating: false };
        if (info.verb === 'create' && sub.create) return { handler: sub.create.handler, columns, longRunning: false, mutating: true };
        throw methodNotAllowed(info.verb);
      }
      const { columns } = resource;
      if (info.verb === 'get') return { handler: resource.get, columns, longRunning: false, mutating: false };
      if (info.verb === 'list') return { handler: resource.list, columns, longRunning: false, mutating: false };
      if (info.verb === 'watch') return { handler: resource.list, columns, longRunning: true, mutating: false };
      throw methodNotAllowed(info.verb);
    },
  };
}
