import type { V1Node } from '@kubernetes/client-node';
import type { KubeClient } from '../../../kube/client.ts';
import { isNotFound } from '../../../kube/errors.ts';
import type { NodeDirectory } from '../node-directory.ts';

const POLL_MS = 50;

async function readNode(client: KubeClient, nodeName: string): Promise<V1Node | undefined> {
  try {
    return await client.request<V1Node>({ path: `/api/v1/nodes/${encodeURIComponent(nodeName)}` });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** The node's boot id and readiness as the API server has them now, past the cache; `bootID` is '' when the node is gone or has none. Throws KubeError. */
export async function currentBoot(client: KubeClient, nodeName: string): Promise<{ bootID: string; ready: boolean }> {
  const status = (await readNode(client, nodeName))?.status;
  const ready = status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false;
  return { bootID: status?.nodeInfo?.bootID ?? '', ready };
}

/**
 * Waits until the directory knows the node at least as well as the API server does now. A copy that lags behind may still have a boot id from before the
 * call, which differs from the one that was noted and would pass for a new boot. Gives up silently when `leftMs` is over.
 */
export async function catchUp(
  client: KubeClient,
  directory: NodeDirectory,
  nodeName: string,
  by: { patiently: <T>(work: () => Promise<T>) => Promise<T>; pause: (ms: number) => Promise<void>; leftMs: () => number },
): Promise<void> {
  const version = (await by.patiently(() => readNode(client, nodeName)))?.metadata?.resourceVersion;
  if (version === undefined) return;
  for (;;) {
    const known = directory.get(nodeName);
    // Gone from the directory: what the operation makes of that does not depend on an old boot id.
    if (!known || BigInt(known.resourceVersion) >= BigInt(version) || by.leftMs() <= 0) return;
    await by.pause(POLL_MS);
  }
}
