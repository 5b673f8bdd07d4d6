import type { TSchema } from 'typebox';
import { AGENT_API } from '../../../kube/lifecycle.ts';
import { schemas } from './schemas.ts';
import type { Change, LifecycleService, Requester } from './service.ts';

/** What a call gets of its request. */
export type Call = { body: unknown; change: Change; requester: Requester; query: URLSearchParams; signal: AbortSignal };

/** One path and method of the agent's API: routing, the OpenAPI document and the names in metrics come from here. */
export type Route = {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  id: string;
  summary: string;
  /** Code of the answer when something was begun, or read. */
  success: 200 | 201 | 202;
  /** Media types of the body; none: there is no body. */
  takes?: readonly string[];
  /** Whether it changes something, and so can be tried with ?dryRun=All. */
  changes: boolean;
} & (
  | { answer: keyof typeof schemas; call(service: LifecycleService, call: Call): Promise<object> }
  | { answer: 'text'; lines(service: LifecycleService, call: Call): AsyncIterable<string> }
);

export const YAML_TYPES: readonly string[] = ['application/yaml', 'application/x-yaml', 'text/yaml'];
const BODY = ['application/json', ...YAML_TYPES];
const PATCH_BODY = ['application/merge-patch+json', ...BODY];
const CLUSTER = `${AGENT_API}/cluster`;

export const ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: CLUSTER,
    id: 'getCluster',
    summary: 'The cluster of this machine, and what is done to it.',
    success: 200,
    changes: false,
    answer: 'Cluster',
    call: (service) => service.get(),
  },
  {
    method: 'POST',
    path: CLUSTER,
    id: 'createCluster',
    summary: 'Creates the cluster.',
    success: 201,
    takes: BODY,
    changes: true,
    answer: 'Cluster',
    call: (service, { body, change }) => service.create(body, change),
  },
  {
    method: 'PUT',
    path: CLUSTER,
    id: 'upgradeCluster',
    summary: 'Upgrades the cluster to another version.',
    success: 202,
    takes: BODY,
    changes: true,
    answer: 'Cluster',
    call: (service, { body, change }) => service.upgrade(body, change),
  },
  {
    method: 'PATCH',
    path: CLUSTER,
    id: 'patchCluster',
    summary: 'Changes the cluster; a JSON merge patch of spec.',
    success: 202,
    takes: PATCH_BODY,
    changes: true,
    answer: 'Cluster',
    call: (service, { body, change }) => service.patch(body, change),
  },
  {
    method: 'DELETE',
    path: CLUSTER,
    id: 'deleteCluster',
    summary: 'Removes the cluster and leaves the machine as it was before.',
    success: 202,
    changes: true,
    answer: 'Cluster',
    call: (service, { change }) => service.delete(change),
  },
  {
    method: 'GET',
    path: `${CLUSTER}/audit`,
    id: 'getAudit',
    summary: 'The audit history; each entry has the hash of the one before.',
    success: 200,
    changes: false,
    answer: 'AuditHistory',
    call: (service) => service.audit(),
  },
  {
    method: 'GET',
    path: `${CLUSTER}/log`,
    id: 'getLog',
    summary: 'What the operations said, line by line; with follow=true as it comes.',
    success: 200,
    changes: false,
    answer: 'text',
    lines: (service, { query, signal }) => service.log({ follow: query.get('follow') === 'true', signal }),
  },
  {
    method: 'GET',
    path: `${AGENT_API}/kubeconfig`,
    id: 'getKubeconfig',
    summary: "The administrator's kubeconfig.",
    success: 200,
    changes: false,
    answer: 'Kubeconfig',
    call: (service, { requester }) => service.kubeconfig(requester),
  },
  {
    method: 'GET',
    path: `${AGENT_API}/certs`,
    id: 'getCerts',
    summary: 'Certificates of the cluster.',
    success: 200,
    changes: false,
    answer: 'CertificateList',
    call: (service) => service.certificates(),
  },
  {
    method: 'DELETE',
    path: `${AGENT_API}/certs`,
    id: 'resetCerts',
    summary: 'Renews the certificates of the control plane now.',
    success: 202,
    changes: true,
    answer: 'Cluster',
    call: (service, { change }) => service.rotateCertificates(change),
  },
  {
    method: 'GET',
    path: `${AGENT_API}/reconciler`,
    id: 'getReconcilers',
    summary: 'What is looked at again and again, and what was found.',
    success: 200,
    changes: false,
    answer: 'Reconcilers',
    call: (service) => service.reconcilers(),
  },
  {
    method: 'PUT',
    path: `${AGENT_API}/repair`,
    id: 'repair',
    summary: 'Puts files and sysctls back that are no longer as they were written.',
    success: 202,
    changes: true,
    answer: 'Cluster',
    call: (service, { change }) => service.repair(change),
  },
  {
    method: 'POST',
    path: `${AGENT_API}/restart`,
    id: 'restart',
    summary: 'Restarts the machine.',
    success: 202,
    changes: true,
    answer: 'Cluster',
    call: (service, { change }) => service.restart(change),
  },
];

/** Schemas are named by the routes. */
export const schemaOf = (name: keyof typeof schemas): TSchema => schemas[name];
