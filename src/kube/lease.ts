import type { V1Lease } from '@kubernetes/client-node';
import type { KubeClient } from './client.ts';
import { isNotFound } from './errors.ts';

const collection = (namespace: string) => `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;

export const leasePath = (namespace: string, name: string): string => `${collection(namespace)}/${name}`;

/** The Lease, or undefined when there is none. */
export async function getLease(client: KubeClient, namespace: string, name: string, signal?: AbortSignal): Promise<V1Lease | undefined> {
  try {
    return await client.request<V1Lease>({ path: leasePath(namespace, name), ...(signal && { signal }) });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Creates or (with a resourceVersion) replaces a Lease. Throws KubeError 409 when somebody was faster. */
export async function putLease(
  client: KubeClient,
  namespace: string,
  lease: V1Lease,
  options: { signal?: AbortSignal; timeoutMs?: number } = {},
): Promise<V1Lease> {
  const exists = lease.metadata?.resourceVersion !== undefined;
  return await client.request<V1Lease>({
    method: exists ? 'PUT' : 'POST',
    path: exists ? leasePath(namespace, lease.metadata?.name ?? '') : collection(namespace),
    body: { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', ...lease },
    ...options,
  });
}

/** A time in the form that Lease fields want. */
export const microTime = (date = new Date()): string => date.toISOString().replace(/Z$/, '000Z');
