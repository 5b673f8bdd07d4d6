import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Registry } from 'prom-client';
import { parseAllDocuments } from 'yaml';
import { type Clusters, clusterRoom } from '../../../src/hub/clusters/cluster-room.ts';
import type { Connection } from '../../../src/hub/clusters/connections.ts';
import { REQUESTED_BY_GROUPS } from '../../../src/hub/clusters/names.ts';
import { BOOTSTRAP_GROUP, type ClusterSettings, DEFAULT_CLUSTER_SETTINGS } from '../../../src/hub/clusters/settings.ts';
import { CLUSTERS_API, type ClusterRegistrationRequest, registrationName } from '../../../src/kube/clusternet.ts';
import { eventRecorder } from '../../../src/kube/events.ts';
import { type SealingKeys, sealingKeys } from '../../../src/tunnel/seal.ts';
import { type KubeApi, kubeApi } from '../../support/kube-api.ts';

export const ID = '11111111-2222-4333-8444-555555555555';
export const REQUESTS = `${CLUSTERS_API}/clusterregistrationrequests`;
export const requestPath = (id: string): string => `${REQUESTS}/${registrationName(id)}`;
/** What the hub names the namespace of ID. */
export const NAMESPACE = 'clusternet-cf4c4';

export type Documents = { kind: string; metadata: { name: string; creationTimestamp?: string }; [key: string]: unknown }[];
/** Objects of a file in deploy/crds. */
export const deployed = (file: string): Documents =>
  parseAllDocuments(readFileSync(new URL(`../../../deploy/crds/${file}`, import.meta.url), 'utf8')).map(
    (document) => document.toJS() as Documents[number],
  );

const KINDS: Record<string, string> = {
  ValidatingAdmissionPolicy: 'validatingadmissionpolicies',
  ValidatingAdmissionPolicyBinding: 'validatingadmissionpolicybindings',
};

/** An API server in memory with the admission policy, which makes tokens with ids of their own. */
export async function parentApi(after: (undo: () => unknown) => void): Promise<KubeApi> {
  const api = await kubeApi();
  after(() => api.close());
  for (const object of deployed('admission-policy.yaml')) {
    const metadata = { ...object.metadata, creationTimestamp: '2026-01-01T00:00:00Z' };
    api.put(`/apis/admissionregistration.k8s.io/v1/${KINDS[object.kind]}`, { ...object, metadata });
  }
  return api;
}

/** Answers TokenRequests; registered last, so that other faults come first. */
export function issueTokens(api: KubeApi): () => void {
  return api.fault(({ method, path, body }) => {
    if (method !== 'POST' || !path.endsWith('/token')) return undefined;
    const { spec } = body as { spec: { expirationSeconds: number } };
    const claims = Buffer.from(JSON.stringify({ jti: randomUUID(), path })).toString('base64url');
    const expirationTimestamp = new Date(Date.now() + spec.expirationSeconds * 1_000).toISOString();
    return { code: 201, body: { status: { token: `e30.${claims}.c2ln`, expirationTimestamp } } };
  });
}

export type Process = {
  clusters: Clusters;
  registry: Registry;
  connections: Map<string, Connection>;
  errors: string[];
  /** Ends it as a crash does: nothing more is sent. */
  stop(): Promise<void>;
};

/** A hub process with this room; leads unless told otherwise. */
export function hubProcess(api: KubeApi, options: { settings?: Partial<ClusterSettings>; lead?: boolean } = {}): Process {
  const controller = new AbortController();
  const { signal } = controller;
  const [connections, errors, registry] = [new Map<string, Connection>(), [] as string[], new Registry()];
  const onError = (error: unknown) => void errors.push(error instanceof Error ? error.message : String(error));
  const clusters = clusterRoom({
    client: api.client,
    connections: { get: (id) => connections.get(id) },
    settings: { ...DEFAULT_CLUSTER_SETTINGS, parentCA: () => 'THE CA', ...options.settings },
    registry,
    events: eventRecorder({ client: api.client, controller: 'fairlead-hub', instance: 'test', signal, onError }),
    signal,
    onError,
  });
  const leading = options.lead === false ? Promise.resolve() : clusters.lead({ signal, holds: () => !signal.aborted });
  return {
    clusters,
    registry,
    connections,
    errors,
    async stop() {
      controller.abort();
      await leading;
    },
  };
}

/** Puts a request of the group there; returns the keys of its agent. */
export function ask(
  api: KubeApi,
  options: { id?: string; groups?: string; key?: boolean; metadata?: object; spec?: object } = {},
): SealingKeys {
  const { id = ID, groups = BOOTSTRAP_GROUP, key = true } = options;
  const keys = sealingKeys();
  api.put(REQUESTS, {
    metadata: { name: registrationName(id), annotations: { [REQUESTED_BY_GROUPS]: groups }, ...options.metadata },
    spec: { clusterId: id, clusterName: 'edge', syncMode: 'Pull', ...(key && { sealingKey: keys.publicKey }), ...options.spec },
  });
  return keys;
}

export const requestIn = (api: KubeApi, id = ID): ClusterRegistrationRequest | undefined =>
  api.get(requestPath(id)) as ClusterRegistrationRequest | undefined;

/** Changes the spec of a request, as an agent or a person would. */
export function change(api: KubeApi, spec: object, id = ID): void {
  const request = requestIn(api, id);
  if (!request) throw new Error(`no request of ${id}`);
  api.put(REQUESTS, { ...request, spec: { ...request.spec, ...spec } });
}

const COLLECTIONS = [
  '/api/v1/namespaces',
  '/api/v1/serviceaccounts',
  `${CLUSTERS_API}/managedclusters`,
  ...['clusterroles', 'clusterrolebindings', 'roles', 'rolebindings'].map((plural) => `/apis/rbac.authorization.k8s.io/v1/${plural}`),
];

/** What is there of clusters, without what differs from run to run. */
export function world(api: KubeApi, id = ID): object {
  const { status, spec } = requestIn(api, id) ?? {};
  const steady = status && {
    ...status,
    sealedToken: status.sealedToken !== undefined,
    token: status.token !== undefined,
    tokenExpirationTimestamp: undefined,
    credentialIDs: status.credentialIDs?.length,
  };
  const objects = COLLECTIONS.flatMap((collection) =>
    api.all(collection).map((object) => {
      const { metadata, apiVersion: _version, status: _status, ...rest } = object;
      return { collection, name: metadata.name, namespace: metadata.namespace, labels: metadata.labels, ...rest };
    }),
  );
  return { decision: spec?.decision, status: steady, objects };
}
