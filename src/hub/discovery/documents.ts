import { type ApiResource, CHANGE_VERBS, type Subresource, type Verb } from '../http/resource.ts';
import { jsonDocument, type StaticDocument } from './document.ts';

/** Media type of aggregated discovery; the aggregator takes the answer only with these very parameters. */
export const AGGREGATED_TYPE = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

/** One version of one API group with its resources, in the order they were given. */
export type GroupVersion = { group: string; version: string; resources: ApiResource[] };

/** The discovery answers: by path for legacy clients, and the one aggregated document for `/apis`. */
export type DiscoveryDocuments = { byPath: ReadonlyMap<string, StaticDocument>; aggregated: StaticDocument };

const OBJECT_VERBS: readonly Verb[] = ['get', 'list', 'watch'];

/** RBAC verbs of a subresource: POST is `create`, PUT `update`. */
export function subresourceVerbs(subresource: Subresource): Verb[] {
  if (subresource.verbs) return [...subresource.verbs];
  return ([...CHANGE_VERBS, 'get'] as const).filter((verb) => subresource[verb] !== undefined).sort();
}

/** Resources by group and version. The first version given of a group is its preferred one. */
export function groupVersions(resources: readonly ApiResource[]): GroupVersion[] {
  const found = new Map<string, GroupVersion>();
  for (const resource of resources) {
    const { group, version } = resource;
    const key = `${group}/${version}`;
    const entry = found.get(key) ?? { group, version, resources: [] };
    if (entry.resources.some((other) => other.plural === resource.plural)) throw new Error(`${key} has two resources ${resource.plural}`);
    entry.resources.push(resource);
    found.set(key, entry);
  }
  return [...found.values()];
}

/** All discovery documents of the given resources, made once. Source of the forms: k8s.io/api/apidiscovery/v2 and meta/v1. */
export function discoveryDocuments(resources: readonly ApiResource[]): DiscoveryDocuments {
  const versions = groupVersions(resources);
  const groups = [...new Set(versions.map((version) => version.group))].map((group) => versions.filter((v) => v.group === group));
  const byPath = new Map<string, StaticDocument>();
  byPath.set('/apis', jsonDocument({ kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map(apiGroup) }));
  for (const group of groups) {
    byPath.set(`/apis/${group[0]?.group}`, jsonDocument({ kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(group) }));
  }
  for (const version of versions) byPath.set(`/apis/${version.group}/${version.version}`, jsonDocument(apiResourceList(version)));
  const aggregated = {
    kind: 'APIGroupDiscoveryList',
    apiVersion: 'apidiscovery.k8s.io/v2',
    metadata: {},
    items: groups.map((group) => ({ metadata: { name: group[0]?.group, creationTimestamp: null }, versions: group.map(versionDiscovery) })),
  };
  return { byPath, aggregated: jsonDocument(aggregated, AGGREGATED_TYPE) };
}

function apiGroup(versions: GroupVersion[]): object {
  const entries = versions.map(({ group, version }) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: versions[0]?.group, versions: entries, preferredVersion: entries[0] };
}

const names = ({ shortNames, categories }: ApiResource) => ({
  ...(shortNames?.length && { shortNames }),
  ...(categories?.length && { categories }),
});

function apiResourceList({ group, version, resources }: GroupVersion): object {
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: `${group}/${version}`,
    resources: resources.flatMap((resource) => [
      {
        name: resource.plural,
        singularName: resource.singular,
        namespaced: false,
        kind: resource.kind,
        verbs: resource.verbs ?? OBJECT_VERBS,
        ...names(resource),
      },
      ...resource.subresources.map((subresource) => ({
        name: `${resource.plural}/${subresource.name}`,
        singularName: '',
        namespaced: false,
        kind: subresource.kind,
        verbs: subresourceVerbs(subresource),
      })),
    ]),
  };
}

/** Every entry has a responseKind: client-go 0.26.0 to 0.26.3 crashed without. */
function versionDiscovery({ group, version, resources }: GroupVersion): object {
  return {
    version,
    resources: resources.map((resource) => ({
      resource: resource.plural,
      responseKind: { group, version, kind: resource.kind },
      scope: 'Cluster',
      singularResource: resource.singular,
      verbs: resource.verbs ?? OBJECT_VERBS,
      ...names(resource),
      ...(resource.subresources.length > 0 && {
        subresources: resource.subresources.map((subresource) => ({
          subresource: subresource.name,
          responseKind: { group, version, kind: subresource.kind },
          verbs: subresourceVerbs(subresource),
        })),
      }),
    })),
    freshness: 'Current',
  };
}
