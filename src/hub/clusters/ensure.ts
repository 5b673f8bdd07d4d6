import { isDeepStrictEqual } from 'node:util';
import type { KubeClient } from '../../kube/client.ts';
import { isConflict, isNotFound } from '../../kube/errors.ts';
import type { Wanted } from './objects.ts';

type Present = { metadata: { resourceVersion: string; labels?: Record<string, string> } } & Record<string, unknown>;

/** The object, or undefined when it is not there. */
export async function getOrNothing<T>(client: KubeClient, path: string, signal: AbortSignal): Promise<T | undefined> {
  try {
    return await client.request<T>({ path, signal });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Deletes; what is gone already is as good. */
export async function deleteIfThere(client: KubeClient, path: string, signal: AbortSignal, preconditions?: { uid: string }): Promise<void> {
  const body = { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy: 'Background', ...(preconditions && { preconditions }) };
  try {
    await client.request({ method: 'DELETE', path, body, signal });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/**
 * Makes the object be there with the fields given beside metadata (rules, subjects, roleRef) and the labels. A roleRef that differs cannot be changed: made anew.
 * `fresh`: it is hardly there yet, so that making it is tried first.
 */
export async function ensure(client: KubeClient, wanted: Wanted, signal: AbortSignal, fresh = false): Promise<void> {
  if (fresh && (await create(client, wanted, signal))) return;
  const { collection, object } = wanted;
  const path = `${collection}/${object.metadata.name}`;
  let present = await getOrNothing<Present>(client, path, signal);
  if (present && 'roleRef' in object && !isDeepStrictEqual(present['roleRef'], object['roleRef'])) {
    await deleteIfThere(client, path, signal);
    present = undefined;
  }
  if (!present) {
    // When it was made meanwhile, it was by the replica that led before: that makes the same.
    await create(client, wanted, signal);
    return;
  }
  const labels = { ...present.metadata.labels, ...object.metadata.labels };
  const { apiVersion: _version, kind: _kind, metadata: _metadata, ...fields } = object;
  const same =
    isDeepStrictEqual(labels, present.metadata.labels) &&
    Object.entries(fields).every(([name, value]) => isDeepStrictEqual(plain(present[name]), plain(value)));
  // An account has nothing of its own that could differ.
  if (same || Object.keys(fields).length === 0) return;
  const body = { ...present, ...fields, metadata: { ...present.metadata, labels } };
  await client.request({ method: 'PUT', path, body, signal });
}

/** Whether it was made; false when one is there already. */
async function create(client: KubeClient, { collection, object }: Wanted, signal: AbortSignal): Promise<boolean> {
  try {
    await client.request({ method: 'POST', path: collection, body: object, signal });
    return true;
  } catch (error) {
    if (isConflict(error)) return false;
    throw error;
  }
}

/** The value as it is after a journey through JSON. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null)) as unknown;
