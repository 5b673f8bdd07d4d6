import type { IncomingMessage } from 'node:http';

/** An object of the in-memory API. */
export type Stored = {
  metadata: {
    name: string;
    namespace?: string;
    resourceVersion: string;
    uid: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    [key: string]: unknown;
  };
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
  data?: Record<string, string>;
  [key: string]: unknown;
};

/** Where a URL path points: a collection (`name` undefined), an object, or a subresource of it. */
export type Place = {
  /** `/api/v1` or `/apis/<group>/<version>`. */
  root: string;
  namespace: string | undefined;
  resource: string;
  name: string | undefined;
  subresource: string | undefined;
};

export function parsePlace(path: string): Place | undefined {
  const match = /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+))?\/([a-z]+)(?:\/([^/]+)(?:\/([a-z]+))?)?$/.exec(path);
  if (!match) return undefined;
  const [, root = '', namespace, resource = '', name, subresource] = match;
  return { root, namespace, resource, name, subresource };
}

export const statusOf = (code: number, reason: string, message: string): object => ({
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: code < 300 ? 'Success' : 'Failure',
  reason,
  message,
  code,
});

/** The JSON body of a request; undefined when there is none. */
export async function read(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return chunks.length === 0 ? undefined : (JSON.parse(Buffer.concat(chunks).toString()) as unknown);
}

/** RFC 7396. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(target as Record<string, unknown> | undefined) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

type Managed = { manager: string; operation: string; fieldsV1: { 'f:spec'?: Record<string, object> } };

/** managedFields as far as the hub looks at them: who set `spec.unschedulable` last. */
export function recordManager(object: Stored, patch: Partial<Stored>, manager: string): Stored {
  if (!patch.spec || !('unschedulable' in patch.spec)) return object;
  const entry: Managed = { manager, operation: 'Update', fieldsV1: { 'f:spec': { 'f:unschedulable': {} } } };
  return { ...object, metadata: { ...object.metadata, managedFields: object.spec?.['unschedulable'] ? [entry] : [] } };
}
