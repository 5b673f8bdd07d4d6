import { Type } from 'typebox';
import { methodNotAllowed } from '../../kube/status.ts';
import type { ApiResource, Verb } from '../http/resource.ts';

const VERBS: readonly Verb[] = ['create', 'delete', 'get', 'patch', 'update'];

/** How `sockets` shows in discovery, as clusternet's hub shows it. Requests never get to a handler here: they are carried, not answered. */
export function socketResource(): ApiResource {
  const nothing = async ({ info }: { info: { verb: string } }) => {
    throw methodNotAllowed(info.verb);
  };
  return {
    group: 'proxies.clusternet.io',
    version: 'v1alpha1',
    plural: 'sockets',
    singular: 'socket',
    kind: 'Socket',
    shortNames: ['ss'],
    categories: ['clusternet'],
    schema: Type.Object({ apiVersion: Type.Optional(Type.String()), kind: Type.Optional(Type.String()) }),
    columns: [],
    list: nothing,
    get: nothing,
    selectableFields: [],
    verbs: VERBS,
    subresources: [
      { name: 'proxy', kind: 'Socket', verbs: VERBS },
      { name: 'attach', kind: 'Socket', verbs: ['create'] },
    ],
  };
}
