import { createHash, randomBytes } from 'node:crypto';
import type { KubeClient } from '../../../kube/client.ts';
import { KubeError } from '../../../kube/errors.ts';
import type { Raw } from '../../../kube/watch-cache.ts';
import { ACTION_LABEL, NODE_LABEL, OBJECT_LABEL, PHASE_LABEL } from '../annotations.ts';
import { type Action, API_VERSION, type NodeOperation, type NodeOperationSpec, type NodeOperationStatus, type Phase } from '../schema.ts';

/** The ConfigMap behind a NodeOperation. `data` holds spec and status as JSON. */
export type OperationConfigMap = Raw & {
  metadata: Raw['metadata'] & { uid?: string; creationTimestamp?: string; labels?: Record<string, string> };
  data?: Record<string, string>;
};

/** A NodeOperation with everything in place. */
export type Operation = NodeOperation & {
  metadata: NonNullable<NodeOperation['metadata']> & { name: string; resourceVersion: string };
  status: NodeOperationStatus;
};

export const OPERATION_SELECTOR = `${OBJECT_LABEL}=operation`;

const FINAL: readonly Phase[] = ['Succeeded', 'Failed', 'Cancelled'];
export const isFinal = (phase: Phase): boolean => FINAL.includes(phase);

/** A node name as a label value: names over 63 characters are replaced by a digest, which serves equality selectors just as well. */
export function nodeLabel(nodeName: string): string {
  return nodeName.length <= 63 ? nodeName : `sha256-${createHash('sha256').update(nodeName).digest('hex').slice(0, 40)}`;
}

/** A name for a new operation. With a request id it is a function of node, action and id, so that a repeated request meets the same object. */
export function operationName(nodeName: string, action: Action, requestID: string | undefined): string {
  const suffix = requestID
    ? createHash('sha256').update(`${nodeName}\0${action}\0${requestID}`).digest('hex').slice(0, 16)
    : randomBytes(5).toString('hex');
  return `${action.toLowerCase()}-${nodeName.slice(0, 200).replace(/[^a-z0-9]+$/, '')}-${suffix}`;
}

/** The operation in a ConfigMap. Throws an Error that names the ConfigMap when its data is not one (somebody edited it). */
export function fromConfigMap(map: OperationConfigMap): Operation {
  const { name, uid, resourceVersion, creationTimestamp, labels } = map.metadata;
  try {
    const spec = JSON.parse(map.data?.['spec'] ?? '') as NodeOperationSpec;
    const status = JSON.parse(map.data?.['status'] ?? '') as NodeOperationStatus;
    if (typeof spec.nodeName !== 'string' || typeof status.phase !== 'string') throw new Error('spec.nodeName or status.phase is missing');
    return {
      apiVersion: API_VERSION,
      kind: 'NodeOperation',
      metadata: { name, resourceVersion, ...(uid && { uid }), ...(creationTimestamp && { creationTimestamp }), ...(labels && { labels }) },
      spec,
      status,
    };
  } catch (error) {
    throw new Error(`ConfigMap ${name} does not hold a node operation: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

const labelsOf = (spec: NodeOperationSpec, status: NodeOperationStatus) => ({
  'app.kubernetes.io/managed-by': 'fairlead-hub',
  [OBJECT_LABEL]: 'operation',
  [NODE_LABEL]: nodeLabel(spec.nodeName),
  [ACTION_LABEL]: spec.action,
  [PHASE_LABEL]: status.phase,
});

/** Where operations are kept: ConfigMaps of one namespace. Every write compares the resourceVersion; KubeError 409 means that somebody was faster. */
export type OperationStore = {
  path: string;
  create(name: string, spec: NodeOperationSpec, status: NodeOperationStatus): Promise<Operation>;
  /** KubeError 404 also for a ConfigMap that is no operation. */
  get(name: string): Promise<Operation>;
  update(operation: Operation, status: NodeOperationStatus): Promise<Operation>;
  delete(operation: Operation): Promise<void>;
};

export function operationStore(client: KubeClient, namespace: string): OperationStore {
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const body = (metadata: object, spec: NodeOperationSpec, status: NodeOperationStatus) => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { ...metadata, labels: labelsOf(spec, status) },
    data: { spec: JSON.stringify(spec), status: JSON.stringify(status) },
  });
  return {
    path,
    async create(name, spec, status) {
      return fromConfigMap(await client.request<OperationConfigMap>({ method: 'POST', path, body: body({ name }, spec, status) }));
    },
    async get(name) {
      const map = await client.request<OperationConfigMap>({ path: `${path}/${encodeURIComponent(name)}` });
      // The namespace has ConfigMaps of other kinds too (the ledger, kube-root-ca.crt): they are no operations, as lists and watches see it.
      if (map.metadata.labels?.[OBJECT_LABEL] !== 'operation') {
        const message = `ConfigMap ${name} is no node operation`;
        throw new KubeError(404, { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404, message });
      }
      return fromConfigMap(map);
    },
    async update(operation, status) {
      const { name, resourceVersion } = operation.metadata;
      const map = body({ name, resourceVersion }, operation.spec, status);
      return fromConfigMap(
        await client.request<OperationConfigMap>({ method: 'PUT', path: `${path}/${encodeURIComponent(name)}`, body: map }),
      );
    },
    async delete(operation) {
      const preconditions = { resourceVersion: operation.metadata.resourceVersion };
      await client.request({
        method: 'DELETE',
        path: `${path}/${encodeURIComponent(operation.metadata.name)}`,
        body: { apiVersion: 'v1', kind: 'DeleteOptions', preconditions },
      });
    },
  };
}
