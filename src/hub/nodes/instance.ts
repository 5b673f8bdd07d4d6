import { invalid, notFound, serviceUnavailable } from '../../kube/status.ts';
import type { Handler } from '../http/resource.ts';
import { cloudStatus } from './cloud-status.ts';
import { CloudError } from './clouds/cloud.ts';
import type { NodeRoom } from './room.ts';
import { API_VERSION, GROUP, type NodeInstance } from './schema.ts';

/** GET nodes/<n>/instance: asks the cloud now. */
export function nodeInstance(room: NodeRoom): Handler {
  return async (context) => {
    const object = { group: GROUP, kind: 'nodes', name: context.info.name };
    if (!room.directory.cache.synced()) throw serviceUnavailable('the nodes have not been read from the API server yet');
    const node = room.directory.get(context.info.name);
    const found = room.directory.machine(context.info.name);
    if (!node || !found) throw notFound(object);
    if ('unsupported' in found)
      throw invalid(object, [{ reason: 'FieldValueNotSupported', message: found.unsupported, field: 'spec.providerID' }]);
    const { cloud, ref } = room.connect(node);
    try {
      const status = await cloud.describe(ref, { signal: AbortSignal.any([context.signal, AbortSignal.timeout(20_000)]) });
      const instance: NodeInstance = {
        apiVersion: API_VERSION,
        kind: 'NodeInstance',
        metadata: { name: node.name, creationTimestamp: new Date().toISOString() },
        machine: found.machine,
        status,
      };
      return { object: instance };
    } catch (error) {
      throw error instanceof CloudError ? cloudStatus(error, node.name, cloud.name) : error;
    }
  };
}
