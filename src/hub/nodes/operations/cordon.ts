import type { V1Node } from '@kubernetes/client-node';
import type { KubeClient } from '../../../kube/client.ts';
import { isConflict, isNotFound } from '../../../kube/errors.ts';
import { CORDONED_BY } from '../annotations.ts';

/** Field manager of our patches: the API server records under it who set `spec.unschedulable` last. */
export const FIELD_MANAGER = 'fairlead-hub';

const path = (nodeName: string) => `/api/v1/nodes/${encodeURIComponent(nodeName)}`;

async function patchNode(client: KubeClient, nodeName: string, patch: object): Promise<V1Node> {
  return await client.request<V1Node>({
    method: 'PATCH',
    path: path(nodeName),
    query: { fieldManager: FIELD_MANAGER },
    contentType: 'application/merge-patch+json',
    body: patch,
  });
}

/** Cordons the node. False when it was cordoned before: then it is somebody else's, and stays so. */
export async function cordon(client: KubeClient, nodeName: string, operation: string): Promise<boolean> {
  for (;;) {
    const node = await client.request<V1Node>({ path: path(nodeName) });
    if (node.spec?.unschedulable) return node.metadata?.annotations?.[CORDONED_BY] === operation;
    try {
      // With the resourceVersion: somebody may cordon the node between our look and our patch, and that cordon would be ours to remove.
      const metadata = { resourceVersion: node.metadata?.resourceVersion, annotations: { [CORDONED_BY]: operation } };
      await patchNode(client, nodeName, { metadata, spec: { unschedulable: true } });
      return true;
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
  }
}

/** Removes our own cordon. A cordon that somebody has set anew since, or a node that is gone, is left as it is. */
export async function uncordon(client: KubeClient, nodeName: string, operation: string): Promise<void> {
  for (;;) {
    try {
      const node = await client.request<V1Node>({ path: path(nodeName) });
      if (node.metadata?.annotations?.[CORDONED_BY] !== operation) return;
      const ours = node.spec?.unschedulable === true && ownsCordon(node);
      const metadata = { resourceVersion: node.metadata.resourceVersion, annotations: { [CORDONED_BY]: null } };
      await patchNode(client, nodeName, { metadata, ...(ours && { spec: { unschedulable: null } }) });
      return;
    } catch (error) {
      if (isNotFound(error)) return;
      if (!isConflict(error)) throw error;
    }
  }
}

function ownsCordon(node: V1Node): boolean {
  return (node.metadata?.managedFields ?? []).some((entry) => {
    const fields = entry.fieldsV1 as { 'f:spec'?: Record<string, unknown> } | undefined;
    return entry.manager === FIELD_MANAGER && fields?.['f:spec']?.['f:unschedulable'] !== undefined;
  });
}

/** Removes an annotation of the node while it has this value. A node that is gone is no error. */
export async function removeAnnotation(client: KubeClient, nodeName: string, name: string, value: string): Promise<void> {
  for (;;) {
    try {
      const node = await client.request<V1Node>({ path: path(nodeName) });
      if (node.metadata?.annotations?.[name] !== value) return;
      await patchNode(client, nodeName, { metadata: { resourceVersion: node.metadata.resourceVersion, annotations: { [name]: null } } });
      return;
    } catch (error) {
      if (isNotFound(error)) return;
      if (!isConflict(error)) throw error;
    }
  }
}

/** Sets (or with null removes) annotations of the node; a node that is gone is no error. */
export async function annotateNode(client: KubeClient, nodeName: string, annotations: Record<string, string | null>): Promise<void> {
  try {
    await patchNode(client, nodeName, { metadata: { annotations } });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
