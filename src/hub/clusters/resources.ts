import { once } from 'node:events';
import { CLUSTERS_API, type ManagedCluster } from '../../kube/clusternet.ts';
import { isNotFound } from '../../kube/errors.ts';
import { notFound, serviceUnavailable } from '../../kube/status.ts';
import { passList, passWatch, type View } from '../http/passthrough.ts';
import type { ApiResource, Handler, Reply, Subresource } from '../http/resource.ts';
import { clusterColumns } from './columns.ts';
import type { ClusterRoom } from './room.ts';
import { API_VERSION, GROUP, InfraCluster, VERSION } from './schema.ts';
import { CLUSTER_FIELDS, clusterFieldSelector } from './selectors.ts';
import { infraCluster, type shownNames } from './view.ts';

const COLLECTION = `${CLUSTERS_API}/managedclusters`;

/** The resource `clusters`: a view over ManagedClusters of all namespaces, with subresources that others answer. */
export function clusterResources(
  room: ClusterRoom,
  names: ReturnType<typeof shownNames>,
  subresources: readonly Subresource[],
): ApiResource[] {
  const show = (raw: ManagedCluster) => infraCluster(raw, names.nameOf(raw), room);
  const view: View<ManagedCluster> = {
    client: room.client,
    path: COLLECTION,
    selectors: (labelSelector, fieldSelector) => ({ labelSelector, fieldSelector: clusterFieldSelector(fieldSelector) }),
    transform: show,
    apiVersion: API_VERSION,
    kind: 'InfraCluster',
    columns: clusterColumns,
  };

  const list: Handler = async (context) => {
    const watch = context.info.verb === 'watch';
    try {
      return watch ? await passWatch(view, context) : await passList(view, context);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      // No CRDs, so no clusters.
      return watch ? nothingHappens(context.signal, context.query.get('timeoutSeconds')) : noClusters();
    }
  };

  const get: Handler = async (context) => {
    const { name } = context.info;
    if (!room.directory.synced()) throw serviceUnavailable('the clusters are not read yet');
    const [namespace, managed] = names.keyOf(name)?.split('/') ?? [];
    const missing = () => notFound({ group: GROUP, kind: 'clusters', name });
    if (!namespace || !managed) throw missing();
    try {
      const path = `${CLUSTERS_API}/namespaces/${namespace}/managedclusters/${managed}`;
      return { object: show(await room.client.request<ManagedCluster>({ path, signal: context.signal })) };
    } catch (error) {
      throw isNotFound(error) ? missing() : error;
    }
  };

  return [
    {
      group: GROUP,
      version: VERSION,
      plural: 'clusters',
      singular: 'cluster',
      kind: 'InfraCluster',
      schema: InfraCluster,
      columns: clusterColumns,
      list,
      get,
      selectableFields: CLUSTER_FIELDS,
      subresources: [...subresources],
    },
  ];
}

const noClusters = (): Reply => ({
  object: { apiVersion: API_VERSION, kind: 'InfraClusterList', metadata: { resourceVersion: '0' }, items: [] },
});

const WATCH_SECONDS = 300;

/** A watch without events. It ends as other watches do, and the client asks again. */
function nothingHappens(signal: AbortSignal, timeoutSeconds: string | null): Reply {
  const seconds = Math.min(Number(timeoutSeconds) || WATCH_SECONDS, WATCH_SECONDS);
  return {
    async stream(_request, response) {
      response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
      response.flushHeaders();
      const end = AbortSignal.any([signal, AbortSignal.timeout(seconds * 1_000)]);
      if (!end.aborted) await once(end, 'abort');
      response.end();
    },
  };
}
