import type { NodeOperation } from '../../src/hub/nodes/schema.ts';
import { API, type Api } from './api.ts';
import { followObject } from './follow-object.ts';
import { isFinal, nameOf } from './operations.ts';

type Told = {
  /** Gets each new state. */
  changed(operation: NodeOperation): void;
  /** The hub cannot be reached, and is asked again. */
  lost(why: string): void;
};

/**
 * Follows an operation until it has ended, and returns it as it is then. Lost connections and restarts are passed over. Throws the signal's
 * reason when that fires, and KubeError when the caller may not read operations or the operation is gone.
 */
export async function waitForOperation(api: Api, started: NodeOperation, told: Told, signal: AbortSignal): Promise<NodeOperation> {
  const gone = `the operation ${nameOf(started)} is gone; its outcome is not known`;
  return await followObject(api, started, { path: `${API}/nodeoperations`, done: isFinal, gone, ...told }, signal);
}
