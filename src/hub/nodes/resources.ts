import { isNotFound } from '../../kube/errors.ts';
import { notFound } from '../../kube/status.ts';
import { LIST_CONVERSIONS, negotiate, OBJECT_TYPES } from '../http/negotiate.ts';
import { passList, passWatch, type View } from '../http/passthrough.ts';
import { queryFields } from '../http/query-options.ts';
import type { ApiResource, Handler, QueryParameter, Subresource } from '../http/resource.ts';
import { cancelOperation } from './cancel.ts';
import { instanceColumns, nodeColumns, operationColumns } from './columns.ts';
import { nodeInstance } from './instance.ts';
import { nodeLog } from './log.ts';
import { type CoreNode, infraNode, nodeFacts } from './node-facts.ts';
import { fromConfigMap, type OperationConfigMap } from './operations/store.ts';
import { requestAction } from './request-action.ts';
import type { NodeRoom } from './room.ts';
import {
  type Action,
  API_VERSION,
  CancelOptions,
  GROUP,
  InfraNode,
  NodeInstance,
  NodeOperation,
  RestartOptions,
  StartOptions,
  StopOptions,
  VERSION,
} from './schema.ts';
import { NODE_FIELDS, nodeFieldSelector, OPERATION_FIELDS, operationSelectors } from './selectors.ts';

/** The resources of this room: `nodes` and `nodeoperations`. */
export function nodeResources(room: NodeRoom): ApiResource[] {
  return [nodes(room), nodeOperations(room)];
}

/** Query parameters that only core lists have, or check; without them a list is answered from memory. */
const PRECISE = ['continue', 'resourceVersionMatch', 'labelSelector', 'fieldSelector'];
/** The same; an empty one is no number, and the core API says so. */
const PRECISE_NUMBERS = ['limit', 'timeoutSeconds'];

function nodes(room: NodeRoom): ApiResource {
  const view: View<CoreNode> = {
    client: room.client,
    path: '/api/v1/nodes',
    selectors: (labelSelector, fieldSelector) => ({ labelSelector, fieldSelector: nodeFieldSelector(fieldSelector) }),
    transform: (raw) => infraNode(nodeFacts(raw), room.machineOf),
    apiVersion: API_VERSION,
    kind: 'InfraNode',
    columns: nodeColumns,
  };

  const list: Handler = async (context) => {
    if (context.info.verb === 'watch') return await passWatch(view, context);
    const version = context.query.get('resourceVersion') ?? '';
    const asked = PRECISE.some((name) => context.query.get(name)) || PRECISE_NUMBERS.some((name) => context.query.has(name));
    const precise = (version !== '' && version !== '0') || asked;
    // Version 0 means any: for it the copy will do as soon as there is one. Without a version the most recent is meant.
    const { cache } = room.directory;
    const unfit = version === '0' ? !cache.synced() : cache.stale() !== undefined;
    if (precise || unfit) return await passList(view, context);
    const accept = negotiate(context.headers.accept, OBJECT_TYPES, LIST_CONVERSIONS);
    if (accept.convert || accept.mediaType !== 'application/json' || context.query.has('pretty')) {
      const metadata = { resourceVersion: room.directory.cache.resourceVersion() };
      return { object: { apiVersion: API_VERSION, kind: 'InfraNodeList', metadata, items: room.directory.views() } };
    }
    const { resourceVersion, items } = room.directory.list();
    const head = `{"kind":"InfraNodeList","apiVersion":"${API_VERSION}","metadata":{"resourceVersion":"${resourceVersion}"},"items":[`;
    return { json: `${head}${items.join(',')}]}` };
  };

  const get: Handler = async (context) => {
    try {
      const path = `${view.path}/${encodeURIComponent(context.info.name)}`;
      const raw = await room.client.request<CoreNode>({ path, signal: context.signal });
      return { object: infraNode(nodeFacts(raw), room.machineOf) };
    } catch (error) {
      throw isNotFound(error) ? notFound({ group: GROUP, kind: 'nodes', name: context.info.name }) : error;
    }
  };

  return {
    group: GROUP,
    version: VERSION,
    plural: 'nodes',
    singular: 'node',
    kind: 'InfraNode',
    schema: InfraNode,
    columns: nodeColumns,
    list,
    get,
    selectableFields: NODE_FIELDS,
    subresources: [
      action('restart', 'Restart', room),
      action('stop', 'Stop', room),
      action('start', 'Start', room),
      {
        name: 'instance',
        kind: 'NodeInstance',
        response: NodeInstance,
        columns: instanceColumns,
        get: { handler: nodeInstance(room), summary: "Asks the cloud about the node's machine." },
      },
      {
        name: 'log',
        kind: 'NodeOperation',
        longRunning: true,
        get: {
          handler: nodeLog(room),
          summary: "The node's operations as lines of text.",
          parameters: LOG_PARAMETERS,
          produces: 'text/plain',
        },
      },
    ],
  };
}

const LOG_PARAMETERS: QueryParameter[] = [
  { name: 'follow', type: 'boolean', description: 'Go on as new lines come.' },
  { name: 'tailLines', type: 'integer', description: 'Only so many of the lines that are there.' },
  { name: 'operation', type: 'string', description: 'Only lines of this operation.' },
];

const OPTIONS = {
  Restart: { body: RestartOptions, summary: "Restarts the node's machine." },
  Stop: { body: StopOptions, summary: "Stops the node's machine." },
  Start: { body: StartOptions, summary: "Starts the node's machine." },
};

function action(name: string, which: Action, room: NodeRoom): Subresource {
  const { body, summary } = OPTIONS[which];
  return {
    name,
    kind: 'NodeOperation',
    response: NodeOperation,
    columns: operationColumns,
    create: { handler: requestAction(which, room), summary, body, bodyKind: `${which}Options`, code: 201, parameters: parametersOf(body) },
  };
}

/** Every field of the options may stand in the query instead. */
function parametersOf(body: typeof RestartOptions | typeof StopOptions | typeof StartOptions | typeof CancelOptions): QueryParameter[] {
  return queryFields(body).map(({ name, type, schema }) => ({
    name,
    type,
    description: 'description' in schema ? String(schema.description) : '',
  }));
}

function nodeOperations(room: NodeRoom): ApiResource {
  const view: View<OperationConfigMap> = {
    client: room.client,
    path: room.store.path,
    selectors: operationSelectors,
    transform(raw) {
      try {
        return fromConfigMap(raw);
      } catch (error) {
        // Somebody edited the ConfigMap; it is not shown as an operation, and the log says why.
        room.onError(error);
        return undefined;
      }
    },
    apiVersion: API_VERSION,
    kind: 'NodeOperation',
    columns: operationColumns,
  };
  return {
    group: GROUP,
    version: VERSION,
    plural: 'nodeoperations',
    singular: 'nodeoperation',
    kind: 'NodeOperation',
    shortNames: ['nodeop', 'nodeops'],
    schema: NodeOperation,
    columns: operationColumns,
    list: async (context) => (context.info.verb === 'watch' ? await passWatch(view, context) : await passList(view, context)),
    async get(context) {
      try {
        return { object: await room.store.get(context.info.name) };
      } catch (error) {
        throw isNotFound(error) ? notFound({ group: GROUP, kind: 'nodeoperations', name: context.info.name }) : error;
      }
    },
    selectableFields: OPERATION_FIELDS,
    subresources: [
      {
        name: 'cancel',
        kind: 'NodeOperation',
        response: NodeOperation,
        columns: operationColumns,
        create: {
          handler: cancelOperation(room),
          summary: 'Stops the operation before the cloud is called.',
          body: CancelOptions,
          bodyKind: 'CancelOptions',
          code: 201,
          parameters: parametersOf(CancelOptions),
        },
      },
    ],
  };
}
