import { type Findings, readFields } from '../../../kube/fields.ts';
import { AGENT_API_VERSION, ClusterSpec } from '../../../kube/lifecycle.ts';
import { badRequest, invalid, type StatusCause } from '../../../kube/status.ts';

/** What an error about the cluster of this machine is about. */
export const CLUSTER = { group: 'infraops.michael.io', kind: 'lifecycle' } as const;

const KINDS: ReadonlyMap<string, string> = new Map([
  ['Cluster', AGENT_API_VERSION],
  ['ClusterLifecycle', 'infraops.michael.io/v1'],
]);
/** `status` may come along (what was read is changed and sent back) and does not count. */
const FIELDS: ReadonlySet<string> = new Set(['apiVersion', 'kind', 'metadata', 'spec', 'status']);

/** What a body said; `spec` as it was written, nothing filled in. */
export type ClusterBody = { metadata: Record<string, string>; spec: Record<string, unknown> };

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Reads the frame of a body: kind Cluster of v1alpha1, or ClusterLifecycle of infraops.michael.io/v1; both may be left out. Throws a 400 or a 422 with field causes. */
export function readBody(body: unknown): ClusterBody {
  if (!isObject(body)) throw badRequest('the body must be an object with kind, apiVersion and spec');
  const { apiVersion = '', kind = '', metadata = {}, spec = {} } = body;
  if (typeof apiVersion !== 'string' || typeof kind !== 'string') throw badRequest('apiVersion and kind must be texts');
  if (!isObject(metadata ?? {})) throw badRequest('metadata must be an object');
  if (!isObject(spec ?? {})) throw badRequest('spec must be an object');
  const causes: StatusCause[] = Object.keys(body)
    .filter((name) => !FIELDS.has(name))
    .slice(0, 64)
    .map((name) => unknownField(name.slice(0, 64)));
  if (kind !== '' && !KINDS.has(kind)) causes.push(unsupported('kind', kind, [...KINDS.keys()]));
  const version = KINDS.get(kind);
  if (apiVersion !== '' && apiVersion !== version && (version !== undefined || ![...KINDS.values()].includes(apiVersion))) {
    causes.push(unsupported('apiVersion', apiVersion, version === undefined ? [...KINDS.values()] : [version]));
  }
  const texts = Object.entries(metadata ?? {}).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  if (JSON.stringify(texts).length > 16_384) {
    causes.push({ reason: 'FieldValueTooLong', message: 'Too long: may not be more than 16 KiB', field: 'metadata' });
  }
  if (causes.length > 0) throw invalid(CLUSTER, causes);
  return { metadata: Object.fromEntries(texts), spec: (spec ?? {}) as Record<string, unknown> };
}

/** Reads a spec by its schema. Without `clusterType` it is kubeadm. Throws a 400 for a wrong type, a 422 with field causes for everything else. */
export function readSpec(given: Record<string, unknown>): ClusterSpec {
  const findings: Findings = { unknown: [], types: [], causes: [] };
  const clusterType =
    given['clusterType'] === undefined || given['clusterType'] === null || given['clusterType'] === '' ? 'kubeadm' : given['clusterType'];
  const spec = readFields(ClusterSpec, { ...given, clusterType }, 'spec', findings) as ClusterSpec;
  if (findings.types.length > 0) throw badRequest(`the body cannot be read: ${findings.types.join(', ')}`);
  const causes = [...findings.unknown.map(unknownField), ...findings.causes];
  if (causes.length > 0) throw invalid(CLUSTER, causes);
  return spec;
}

const unknownField = (field: string): StatusCause => ({ reason: 'FieldValueForbidden', message: 'unknown field', field });
const unsupported = (field: string, value: string, supported: readonly string[]): StatusCause => ({
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: ${JSON.stringify(value.slice(0, 64))}: supported values: ${supported.map((one) => JSON.stringify(one)).join(', ')}`,
  field,
});
