import type { Handler, QueryParameter, RequestContext, Subresource } from '../http/resource.ts';
import type { Agents } from './agents.ts';
import { auditReply, certificatesReply, lifecycleReply } from './answers.ts';
import { isDryRun, isDryRunOfAction, isDryRunOfDelete, lifecycleBody, PATCH_TYPES, patchBody } from './body.ts';
import { type AgentCalls, agentCalls, type Call } from './call.ts';
import { auditColumns, certificateColumns, lifecycleColumns } from './columns.ts';
import { ClusterActionOptions, ClusterAudit, ClusterCertificates, ClusterLifecycle } from './schema.ts';
import { clusterKubeconfig, clusterLog, clusterMetrics } from './text.ts';

const CLUSTER = '/api/v1alpha1/cluster';
const CERTS = '/api/v1alpha1/certs';
/** A status, or a plan with the text of all files. */
const MAX_OBJECT = 4 * 1024 * 1024;
/** An entry has about 500 bytes. The agent leaves out what is more. */
const MAX_AUDIT = 16 * 1024 * 1024;

const DRY_RUN: QueryParameter = {
  name: 'dryRun',
  type: 'string',
  enum: ['All'],
  description: 'With All the answer is an OperationPlan, and nothing is changed.',
};

/** The subresources of a cluster that its own agent answers. */
export function lifecycleSubresources(agents: Agents): Subresource[] {
  const calls = agentCalls(agents);
  return [
    lifecycle(calls),
    action('restart', '/api/v1alpha1/restart', 'POST', 'Restarts the machine of the cluster.', calls),
    repair(calls),
    ...readings(calls),
    certs(calls),
  ];
}

type Begin = (context: RequestContext) => Promise<{ body?: NonNullable<Call['body']>; dryRun: boolean }>;

/** A change: what comes back is the cluster, or a plan. */
function change(calls: AgentCalls, method: Call['method'], path: string, begin: Begin, created?: number): Handler {
  return async (context) => {
    const { body, dryRun } = await begin(context);
    const target = dryRun ? `${path}?dryRun=All` : path;
    const { cluster, code, value } = await calls.object(context, { method, path: target, ...(body && { body }) }, MAX_OBJECT);
    return lifecycleReply(cluster.name, code, value, created);
  };
}

const withBody: Begin = async (context) => ({ dryRun: isDryRun(context), body: await lifecycleBody(context) });
const withPatch: Begin = async (context) => ({ dryRun: isDryRun(context), body: await patchBody(context) });
const ofDelete: Begin = async (context) => ({ dryRun: await isDryRunOfDelete(context) });
const ofAction: Begin = async (context) => ({ dryRun: await isDryRunOfAction(context) });

function lifecycle(calls: AgentCalls): Subresource {
  const body = { body: ClusterLifecycle, bodyKind: 'ClusterLifecycle', parameters: [DRY_RUN] };
  return {
    name: 'lifecycle',
    kind: 'ClusterLifecycle',
    response: ClusterLifecycle,
    columns: lifecycleColumns,
    get: {
      summary: 'The single-node cluster on the machine.',
      handler: async (context) => {
        const { cluster, code, value } = await calls.object(context, { method: 'GET', path: CLUSTER }, MAX_OBJECT);
        return lifecycleReply(cluster.name, code, value);
      },
    },
    create: {
      ...body,
      handler: change(calls, 'POST', CLUSTER, withBody, 201),
      summary: 'Makes the machine a single-node cluster.',
      code: 201,
    },
    update: { ...body, handler: change(calls, 'PUT', CLUSTER, withBody), summary: 'Upgrades the cluster.', code: 200 },
    patch: {
      ...body,
      handler: change(calls, 'PATCH', CLUSTER, withPatch),
      summary: 'Changes the cluster by a JSON merge patch.',
      consumes: PATCH_TYPES,
      code: 200,
    },
    delete: {
      handler: change(calls, 'DELETE', CLUSTER, ofDelete),
      summary: 'Removes the cluster from the machine.',
      parameters: [DRY_RUN],
      code: 200,
    },
  };
}

function action(name: string, path: string, method: Call['method'], summary: string, calls: AgentCalls): Subresource {
  return {
    name,
    kind: 'ClusterLifecycle',
    response: ClusterLifecycle,
    columns: lifecycleColumns,
    create: {
      handler: change(calls, method, path, ofAction, 201),
      summary,
      body: ClusterActionOptions,
      bodyKind: 'ClusterActionOptions',
      parameters: [DRY_RUN],
      code: 201,
    },
  };
}

const repair = (calls: AgentCalls) =>
  action('repair', '/api/v1alpha1/repair', 'PUT', 'Puts files and settings back that are no longer as the operations wrote them.', calls);

function certs(calls: AgentCalls): Subresource {
  return {
    name: 'certs',
    kind: 'ClusterCertificates',
    response: ClusterCertificates,
    columns: certificateColumns,
    get: {
      summary: 'The certificates of the control plane.',
      handler: async (context) => {
        const { cluster, value } = await calls.object(context, { method: 'GET', path: CERTS }, MAX_OBJECT);
        return certificatesReply(cluster.name, value);
      },
    },
    delete: {
      handler: change(calls, 'DELETE', CERTS, ofDelete),
      summary: 'Rotates the certificates now.',
      parameters: [DRY_RUN],
      code: 200,
      response: ClusterLifecycle,
    },
  };
}

function readings(calls: AgentCalls): Subresource[] {
  return [
    {
      name: 'kubeconfig',
      kind: 'ClusterKubeconfig',
      get: {
        summary: "The administrator's kubeconfig of the cluster; an object for those who accept nothing but JSON.",
        handler: clusterKubeconfig(calls),
        produces: ['application/yaml', 'application/json'],
        recorded: true,
        negotiates: true,
      },
    },
    {
      name: 'audit',
      kind: 'ClusterAudit',
      response: ClusterAudit,
      columns: auditColumns,
      get: {
        summary: 'What was done to the cluster, chained by hashes.',
        handler: async (context) => {
          const { cluster, value } = await calls.object(context, { method: 'GET', path: `${CLUSTER}/audit` }, MAX_AUDIT);
          return auditReply(cluster.name, value, (text) => context.warn(text));
        },
      },
    },
    {
      name: 'log',
      kind: 'ClusterLifecycle',
      longRunning: true,
      get: {
        handler: clusterLog(calls),
        summary: 'The operations of the cluster as lines of text.',
        parameters: [{ name: 'follow', type: 'boolean', description: 'Go on as new lines come.' }],
        produces: 'text/plain',
      },
    },
    {
      name: 'metrics',
      kind: 'ClusterLifecycle',
      get: { handler: clusterMetrics(calls), summary: "The agent's metrics.", produces: 'text/plain', negotiates: true },
    },
  ];
}
