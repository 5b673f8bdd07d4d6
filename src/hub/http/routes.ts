import { methodNotAllowed, pathNotFound } from '../../kube/status.ts';
import { type ApiResource, CHANGE_VERBS, type Column, type Handler, type ResourceInfo, type Subresource } from './resource.ts';

/** What answers one request. */
export type Route = {
  handler: Handler;
  columns: Column<never>[];
  longRunning: boolean;
  /** Not done unless it can be recorded. */
  recorded: boolean;
  /** The handler chooses the media type. */
  negotiates: boolean;
};

/** Finds the handler of a request. Throws StatusError 404 for a path that is not served and 405 for a method that is not. */
export type Routes = {
  find(info: ResourceInfo): Route;
  /** The HTTP methods that a path takes, whatever the one in `info` is; none for a path that is not served. */
  methods(info: ResourceInfo): string[];
  known(group: string, resource: string, subresource: string): boolean;
};

const METHODS = { create: 'POST', update: 'PUT', patch: 'PATCH', delete: 'DELETE' } as const;
const READ = ['GET', 'HEAD'];

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

  const served = (info: ResourceInfo) => {
    const found = lookup(info.group, info.resource, info.subresource);
    return found?.resource.version === info.version && info.rest === '' ? found : undefined;
  };

  return {
    known: (group, resource, subresource) => lookup(group, resource, subresource) !== undefined,
    methods(info) {
      const found = served(info);
      if (!found?.sub) return found ? READ : [];
      const { sub } = found;
      return [...(sub.get ? READ : []), ...CHANGE_VERBS.filter((verb) => sub[verb]).map((verb) => METHODS[verb])];
    },
    find(info) {
      const found = served(info);
      if (!found) throw pathNotFound();
      const { resource, sub } = found;
      if (sub) {
        const columns = sub.columns ?? resource.columns;
        const common = { columns, longRunning: false, negotiates: false };
        if (info.verb === 'get' && sub.get) {
          const { handler, recorded = false, negotiates = false } = sub.get;
          return { handler, columns, longRunning: sub.longRunning ?? false, recorded, negotiates };
        }
        const verb = CHANGE_VERBS.find((one) => one === info.verb);
        const change = verb && sub[verb];
        if (change) return { ...common, handler: change.handler, recorded: true };
        throw methodNotAllowed(info.verb);
      }
      const common = { columns: resource.columns, longRunning: false, recorded: false, negotiates: false };
      if (info.verb === 'get') return { ...common, handler: resource.get };
      if (info.verb === 'list') return { ...common, handler: resource.list };
      if (info.verb === 'watch') return { ...common, handler: resource.list, longRunning: true };
      throw methodNotAllowed(info.verb);
    },
  };
}
