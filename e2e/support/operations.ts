import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { parse, stringify } from 'yaml';
import { hubNamespace } from '../lab/hub-objects.ts';
import type { Lab } from '../lab/lab.ts';
import type { KubeNode, LabNode } from '../lab/nodes.ts';
import { pause, waitFor } from '../lab/wait.ts';

/** What the tests read of a NodeOperation. */
export type NodeOperation = {
  metadata: { name: string };
  spec: { nodeName: string };
  status: {
    phase: string;
    reason?: string;
    message?: string;
    holder?: string;
    bootIDBefore?: string;
    bootIDAfter?: string;
    startTime?: string;
    completionTime?: string;
    cordonedByOperation?: boolean;
    podsToEvict?: number;
    podsEvicted?: number;
    calls?: { action: string; attempt: number; state: string; code?: string; message?: string }[];
    history?: { phase: string; time: string; message?: string }[];
  };
};

export type Status = {
  kind: string;
  code: number;
  reason: string;
  message: string;
  details?: { causes?: { reason: string; field: string; message: string }[]; retryAfterSeconds?: number };
};

/** Flags that make a hub fast enough for tests: short leases and waits, and no limit on nodes that are down. */
export const fastFlags: readonly string[] = [
  '--leader-elect-lease-duration=2s',
  '--leader-elect-renew-deadline=1500ms',
  '--leader-elect-retry-period=300ms',
  '--unanswered-call-wait=4s',
  '--restart-cooldown=0',
  '--max-nodes-down=100%',
  '--max-nodes-down-per-zone=100%',
  '--operation-timeout=60s',
  '--shutdown-delay=0s',
];

const GROUP = '/apis/infraops.michael.io/v1';
const operationsPath = `${GROUP}/nodeoperations`;
export const isFinal = ({ status }: NodeOperation): boolean => ['Succeeded', 'Failed', 'Cancelled'].includes(status.phase);

/** The kubeconfig of a hub, but through a gate at `url`. For `--kubeconfig`; to be called when the hub starts, because the lab writes it then. */
export function kubeconfigThrough(lab: Lab, url: string): string {
  const config = parse(readFileSync(join(lab.dir, 'hub', 'kubeconfig'), 'utf8')) as { clusters: { cluster: object }[] };
  for (const entry of config.clusters) entry.cluster = { server: url, 'insecure-skip-tls-verify': true };
  const path = join(lab.dir, 'hub', 'kubeconfig-gate');
  writeFileSync(path, stringify(config), { mode: 0o600 });
  return path;
}

/** POSTs an action for a node through kube-apiserver as admin, and gives whatever comes back. */
export async function postAction(
  lab: Lab,
  nodeName: string,
  options: object = {},
  action = 'restart',
): Promise<{ status: number; operation: NodeOperation; refusal: Status }> {
  const answer = await lab.api.request('POST', `${GROUP}/nodes/${nodeName}/${action}`, { body: options });
  const body = answer.text.startsWith('{') ? (JSON.parse(answer.text) as unknown) : { message: answer.text };
  return { status: answer.status, operation: body as NodeOperation, refusal: body as Status };
}

/**
 * Begins an action and gives the name of its operation. While replicas are killed the request may hit a dead one; it is then repeated with the
 * same requestID, so that it can never begin two.
 */
export async function begin(lab: Lab, node: LabNode, options: Record<string, unknown> = {}, action = 'restart'): Promise<string> {
  const requestID = `t-${crypto.randomUUID()}`;
  const ask = async () => {
    const { status, operation, refusal } = await postAction(lab, node.name, { requestID, ...options }, action);
    if (status === 200 || status === 201) return operation.metadata.name;
    throw new Error(`${action} of ${node.name}: ${status} ${refusal.message}`);
  };
  return await waitFor(ask, { what: `the ${action} of ${node.name} to be accepted`, timeout: 90_000, interval: 200 });
}

export const getOperation = (lab: Lab, name: string) => lab.api.json<NodeOperation>('GET', `${operationsPath}/${name}`);

/** Like `getOperation`, but straight from the ConfigMap: works while no hub does. */
export async function readOperation(lab: Lab, name: string): Promise<NodeOperation> {
  const path = `/api/v1/namespaces/${hubNamespace}/configmaps/${name}`;
  const map = await lab.api.json<{ metadata: { name: string }; data: { spec: string; status: string } }>('GET', path);
  return { metadata: map.metadata, spec: JSON.parse(map.data.spec), status: JSON.parse(map.data.status) } as NodeOperation;
}

/** Waits until the operation has ended and gives it. */
export async function ended(lab: Lab, name: string, timeout = 60_000): Promise<NodeOperation> {
  return await when(lab, name, isFinal, 'to have ended', timeout);
}

/** Waits until the operation, read from its ConfigMap, is as wanted. */
export async function when(
  lab: Lab,
  name: string,
  wanted: (operation: NodeOperation) => boolean,
  what: string,
  timeout = 30_000,
): Promise<NodeOperation> {
  let last: NodeOperation | undefined;
  const look = async () => {
    last = await readOperation(lab, name);
    return wanted(last) && last;
  };
  try {
    return await waitFor(look, { what: `operation ${name} ${what}`, timeout, interval: 30 });
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : String(error)}; it is ${JSON.stringify(last?.status)}`, { cause: error });
  }
}

export const getNode = (lab: Lab, name: string) => lab.api.json<KubeNode>('GET', `/api/v1/nodes/${name}`);

/** Names in the ledger of admitted operations. */
export async function ledgerNames(lab: Lab): Promise<string[]> {
  const path = `/api/v1/namespaces/${hubNamespace}/configmaps/fairlead-node-operations`;
  const answer = await lab.api.request('GET', path);
  if (answer.status === 404) return [];
  const { data } = JSON.parse(answer.text) as { data: { active: string } };
  return (JSON.parse(data.active) as { name: string }[]).map(({ name }) => name);
}

/** What an operation holds on its node must be given back: annotation, cordon and Lease. */
export async function expectReleased(lab: Lab, node: LabNode, cordoned = false): Promise<void> {
  const { metadata, spec } = await getNode(lab, node.name);
  expect(metadata.annotations ?? {}, `annotations of ${node.name}`).not.toHaveProperty(['infraops.michael.io/operation']);
  expect(metadata.annotations ?? {}, `annotations of ${node.name}`).not.toHaveProperty(['infraops.michael.io/cordoned-by']);
  expect(spec.unschedulable ?? false, `unschedulable of ${node.name}`).toBe(cordoned);
  const lease = await lab.api.request('GET', `/apis/coordination.k8s.io/v1/namespaces/${hubNamespace}/leases/node-${node.name}`);
  expect(lease.status, `Lease of ${node.name}`).toBe(404);
}

/** A number from 0 to `below`, for moments and choices that need not be the same in every run. */
export const random = (below: number): number => Math.random() * below;

/** Waits for a time that is part of the fault itself, such as an outage of a given length. */
export const faultLasts = (milliseconds: number): Promise<void> => pause(milliseconds);
