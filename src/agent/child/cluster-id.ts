import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { V1Lease } from '@kubernetes/client-node';
import type { KubeClient } from '../../kube/client.ts';
import { isConflict, isNotFound } from '../../kube/errors.ts';
import { getLease, putLease } from '../../kube/lease.ts';

/** Lease of clusternet's agent, and ours: its uid is the id of the cluster. */
export const AGENT_LEASE = 'clusternet-agent';
/** Annotation of that Lease with an id from before, which then counts. */
const LEGACY_ID = 'legacy-cluster-id';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/**
 * The id of a cluster: uid of the Lease `clusternet-agent` in `namespace`, which is created when it is not there, as is the namespace.
 * Throws KubeError, or an Error when what is there is no id.
 */
export async function clusterIdOf(client: KubeClient, namespace: string, signal: AbortSignal): Promise<string> {
  const lease = (await getLease(client, namespace, AGENT_LEASE, signal)) ?? (await createLease(client, namespace, signal));
  const id = (lease.metadata?.annotations?.[LEGACY_ID] || lease.metadata?.uid || '').toLowerCase();
  if (!UUID.test(id))
    throw new Error(`Lease ${namespace}/${AGENT_LEASE}: ${JSON.stringify(id)} is no cluster id; correct its annotation ${LEGACY_ID}`);
  return id;
}

async function createLease(client: KubeClient, namespace: string, signal: AbortSignal): Promise<V1Lease> {
  // Held by nobody: the election takes it.
  const empty = { metadata: { name: AGENT_LEASE }, spec: { holderIdentity: '', leaseDurationSeconds: 1, leaseTransitions: 0 } };
  const create = () => putLease(client, namespace, empty, { signal });
  try {
    return await create().catch(async (error: unknown) => {
      if (!isNotFound(error)) throw error;
      await createNamespace(client, namespace, signal);
      return await create();
    });
  } catch (error) {
    const present = isConflict(error) ? await getLease(client, namespace, AGENT_LEASE, signal) : undefined;
    if (present) return present;
    throw error;
  }
}

async function createNamespace(client: KubeClient, name: string, signal: AbortSignal): Promise<void> {
  const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
  await client.request({ method: 'POST', path: '/api/v1/namespaces', body, signal }).catch((error: unknown) => {
    if (isConflict(error)) return;
    throw new Error(
      `namespace ${name} does not exist and could not be created: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  });
}

/** Our name in systemd's sense: machine-id(5) asks that the id itself is not given to others, but a keyed hash of it. */
const APPLICATION = Buffer.from('3f5c5e1d8f2b4c0e9a7d6b1c2e4f8a90', 'hex');

/** The id of a machine without a cluster, as a UUID: the same after a re-installation of the agent. Throws an Error that names the file. */
export async function machineClusterId(file = '/etc/machine-id'): Promise<string> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Error(`machine id: ${error.message}; systemd-machine-id-setup makes one`, { cause: error });
  });
  const hex = text.trim().toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(hex)) throw new Error(`machine id: ${file} does not hold 32 hexadecimal digits`);
  const bytes = createHmac('sha256', Buffer.from(hex, 'hex')).update(APPLICATION).digest().subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const id = bytes.toString('hex');
  return [id.slice(0, 8), id.slice(8, 12), id.slice(12, 16), id.slice(16, 20), id.slice(20)].join('-');
}
