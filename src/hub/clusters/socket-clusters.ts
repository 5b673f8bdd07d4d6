import type { KubeClient } from '../../kube/client.ts';
import { CLUSTERS_API, CLUSTERS_VERSION, type ClusterRegistrationRequest, registrationName } from '../../kube/clusternet.ts';
import { isConflict, isNotFound } from '../../kube/errors.ts';
import type { EventRecorder } from '../../kube/events.ts';
import type { SocketClusters } from '../sockets/clusters.ts';
import type { ClusterDirectory } from './directory.ts';

const ATTEMPTS = 5;

/** The clusters as the request path sees them. Runs in each replica. */
export function socketClusters(options: {
  client: KubeClient;
  directory: ClusterDirectory;
  events: EventRecorder;
  signal: AbortSignal;
  onError: (error: unknown) => void;
}): SocketClusters {
  const { client, directory, events, signal, onError } = options;

  /** The agent uses its newest credential: those before it end. */
  async function endOlder(id: string, credentialID: string): Promise<void> {
    const path = `${CLUSTERS_API}/clusterregistrationrequests/${registrationName(id)}`;
    let request = directory.requests.get(registrationName(id));
    for (let attempt = 1; request; attempt++) {
      const ids = request.status?.credentialIDs;
      if (!ids || ids.length < 2 || ids[0] !== credentialID) return;
      const { resourceVersion } = request.metadata;
      try {
        await client.request({
          method: 'PATCH',
          path: `${path}/status`,
          contentType: 'application/merge-patch+json',
          body: { metadata: { resourceVersion }, status: { credentialIDs: [credentialID] } },
          signal,
        });
        return;
      } catch (error) {
        if (isNotFound(error)) return;
        if (!isConflict(error) || attempt >= ATTEMPTS) throw error;
        request = await client.request<ClusterRegistrationRequest>({ path, signal });
      }
    }
  }

  return {
    find: directory.find,
    synced: directory.synced,
    onChange: directory.onChange,
    opened(id, credentialID) {
      if (credentialID === undefined || signal.aborted) return;
      endOlder(id, credentialID).catch((error: unknown) => {
        if (!signal.aborted && !isNotFound(error)) onError(error);
      });
    },
    takenOver(id, detail) {
      const uid = directory.requests.get(registrationName(id))?.metadata.uid;
      events({
        regarding: { apiVersion: CLUSTERS_VERSION, kind: 'ClusterRegistrationRequest', name: registrationName(id), ...(uid && { uid }) },
        type: 'Warning',
        reason: 'SocketTakenOver',
        action: 'TakeOver',
        note: detail,
      });
    },
  };
}
