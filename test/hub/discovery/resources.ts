import { InfraCluster } from '../../../src/hub/clusters/schema.ts';
import type { ApiResource, Column, Handler } from '../../../src/hub/http/resource.ts';
import { lifecycleSubresources } from '../../../src/hub/lifecycle/subresources.ts';
import {
  CancelOptions,
  GROUP,
  InfraNode,
  NodeInstance,
  NodeOperation,
  RestartOptions,
  StartOptions,
  StopOptions,
  VERSION,
} from '../../../src/hub/nodes/schema.ts';

const unused: Handler = () => Promise.reject(new Error('the documents are made without calling a handler'));

const nobody = () => {
  throw new Error('the documents are made without asking an agent');
};

const nodeColumns: Column<InfraNode>[] = [
  { name: 'Name', type: 'string', format: 'name', description: 'Name.', value: (node) => node.metadata?.name ?? '' },
  { name: 'Cloud', type: 'string', description: 'Cloud.', value: (node) => node.status?.machine?.cloud ?? null },
  { name: 'Age', type: 'date', description: 'Age.', value: (node) => node.metadata?.creationTimestamp ?? '' },
  { name: 'Provider ID', type: 'string', description: 'Provider ID.', priority: 1, value: (node) => node.spec?.providerID ?? null },
];

const create = (body: typeof RestartOptions | typeof StopOptions | typeof StartOptions, bodyKind: string) => ({
  handler: unused,
  summary: `${bodyKind} on the machine of a node`,
  body,
  bodyKind,
  code: 201,
});

export const nodes: ApiResource<InfraNode> = {
  group: GROUP,
  version: VERSION,
  plural: 'nodes',
  singular: 'node',
  kind: 'InfraNode',
  schema: InfraNode,
  columns: nodeColumns,
  list: unused,
  get: unused,
  selectableFields: ['metadata.name'],
  subresources: [
    { name: 'instance', kind: 'NodeInstance', response: NodeInstance, get: { handler: unused, summary: 'ask the cloud' } },
    { name: 'restart', kind: 'RestartOptions', response: NodeOperation, create: create(RestartOptions, 'RestartOptions') },
    { name: 'stop', kind: 'StopOptions', response: NodeOperation, create: create(StopOptions, 'StopOptions') },
    { name: 'start', kind: 'StartOptions', response: NodeOperation, create: create(StartOptions, 'StartOptions') },
    {
      name: 'log',
      kind: 'InfraNode',
      longRunning: true,
      get: {
        handler: unused,
        summary: 'operations as text',
        produces: 'text/plain',
        parameters: [{ name: 'follow', description: 'Stream.', type: 'boolean' }],
      },
    },
  ],
};

export const nodeOperations: ApiResource<NodeOperation> = {
  group: GROUP,
  version: VERSION,
  plural: 'nodeoperations',
  singular: 'nodeoperation',
  kind: 'NodeOperation',
  shortNames: ['nodeop'],
  categories: ['infraops'],
  schema: NodeOperation,
  columns: [
    { name: 'Name', type: 'string', format: 'name', description: 'Name.', value: (operation) => operation.metadata?.name ?? '' },
    { name: 'Phase', type: 'string', description: 'Phase.', value: (operation) => operation.status?.phase ?? null },
  ],
  list: unused,
  get: unused,
  selectableFields: ['metadata.name', 'spec.nodeName'],
  subresources: [
    {
      name: 'cancel',
      kind: 'CancelOptions',
      response: NodeOperation,
      create: { handler: unused, summary: 'cancel', body: CancelOptions, bodyKind: 'CancelOptions', code: 201 },
    },
  ],
};

/** A second group, as later parts of the hub add one. */
export const other: ApiResource<InfraNode> = {
  ...nodes,
  group: 'proxies.example.org',
  version: 'v1alpha1',
  plural: 'sockets',
  singular: 'socket',
  subresources: [],
};

/** As the hub serves it, with every subresource; nothing is ever asked here. */
export const clusters: ApiResource<InfraCluster> = {
  ...{ group: GROUP, version: VERSION, plural: 'clusters', singular: 'cluster', kind: 'InfraCluster' },
  schema: InfraCluster,
  columns: [],
  list: unused,
  get: unused,
  selectableFields: [],
  subresources: lifecycleSubresources({ find: nobody, upstream: nobody, protocol: nobody, failure: nobody }),
};

export const resources: ApiResource[] = [nodes, nodeOperations, clusters, other];
