import { badGateway } from '../../kube/status.ts';
import type { Reply } from '../http/resource.ts';
import { API_VERSION } from './schema.ts';

type Value = Record<string, unknown>;

const head = (kind: string, name: string) => ({ apiVersion: API_VERSION, kind, metadata: { name } });
const isObject = (value: unknown): value is Value => typeof value === 'object' && value !== null && !Array.isArray(value);
const unexpected = (name: string, what: string) => badGateway(`the agent of cluster ${name} did not answer with ${what}`);

/**
 * What an agent answered about its cluster, as an object of this API under the cluster's name: a ClusterLifecycle, or the plan of a dry run. `created`: the code of a
 * POST that began something.
 */
export function lifecycleReply(name: string, code: number, value: Value, created?: number): Reply {
  if (value['kind'] === 'OperationPlan') {
    const { operation, actions } = value;
    if (!Array.isArray(actions)) throw unexpected(name, 'the actions of a plan');
    return { code: 200, object: { ...head('OperationPlan', name), operation, actions } };
  }
  const { spec, status } = value;
  if (!isObject(status)) throw unexpected(name, 'the status of a cluster');
  return {
    code: created ?? (code === 202 ? 202 : 200),
    object: { ...head('ClusterLifecycle', name), ...(isObject(spec) && { spec }), status },
  };
}

export function certificatesReply(name: string, { CertsInfo }: Value): Reply {
  if (!Array.isArray(CertsInfo) || !CertsInfo.every(isObject)) throw unexpected(name, 'certificates');
  return { object: { ...head('ClusterCertificates', name), CertsInfo } };
}

/** `warn` gets what the caller must know of a history that does not begin with its first entry. */
export function auditReply(name: string, { operations, omitted = 0 }: Value, warn: (text: string) => void): Reply {
  if (!Array.isArray(operations) || !operations.every(isObject)) throw unexpected(name, 'an audit history');
  if (!Number.isSafeInteger(omitted) || Number(omitted) < 0) throw unexpected(name, 'the number of the entries that it left out');
  if (omitted !== 0) {
    warn(
      `the history of ${name} is too long for one answer: entries 1 to ${Number(omitted)} are left out; they are on the machine, in audit.jsonl of the agent`,
    );
  }
  return { object: { ...head('ClusterAudit', name), operations, ...(omitted !== 0 && { omitted }) } };
}

/** The kubeconfig out of the agent's `{contents}`. */
export function kubeconfigOf(name: string, { contents }: Value): string {
  if (typeof contents !== 'string' || contents === '') throw unexpected(name, 'a kubeconfig');
  return contents;
}
