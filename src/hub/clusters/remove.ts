import { CLUSTERS_API } from '../../kube/clusternet.ts';
import { deleteIfThere } from './ensure.ts';
import { isOurs, namespacesOf } from './namespace.ts';
import { accessPaths } from './objects.ts';
import { managedClustersIn } from './provision.ts';
import type { LeadingRoom } from './room.ts';

/** Takes the agent's account and rights away. What else there is stays, for the case that the cluster is let in again. */
export async function revokeAccess(clusterID: string, room: LeadingRoom): Promise<void> {
  const namespaces = await namespacesOf(room.client, clusterID, room.signal);
  for (const path of accessPaths(
    clusterID,
    namespaces.map(({ metadata }) => metadata.name),
  )) {
    await deleteIfThere(room.client, path, room.signal);
  }
}

/**
 * Deletes everything of a cluster but its request. Found by label and by names that follow from the id, so that it can be done again after a crash; the
 * namespace goes last, because the rest is found by it. A namespace that a person made stays.
 */
export async function removeCluster(clusterID: string, room: LeadingRoom): Promise<void> {
  const { client, signal, names } = room;
  await revokeAccess(clusterID, room);
  const namespaces = await namespacesOf(client, clusterID, signal);
  for (const namespace of namespaces) {
    const { name } = namespace.metadata;
    for (const { metadata } of await managedClustersIn(room, name, clusterID))
      await deleteIfThere(client, `${CLUSTERS_API}/namespaces/${name}/managedclusters/${metadata.name}`, signal);
  }
  for (const namespace of namespaces) {
    if (isOurs(namespace) && !namespace.metadata.deletionTimestamp)
      await deleteIfThere(client, `/api/v1/namespaces/${namespace.metadata.name}`, signal);
  }
  for (const [name, id] of names) if (id === clusterID) names.delete(name);
}
