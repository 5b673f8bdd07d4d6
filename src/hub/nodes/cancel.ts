import { isConflict, isNotFound } from '../../kube/errors.ts';
import { conflict, notFound } from '../../kube/status.ts';
import { readOptions } from '../http/query-options.ts';
import type { Handler } from '../http/resource.ts';
import { isFinal, type Operation } from './operations/store.ts';
import type { NodeRoom } from './room.ts';
import { API_VERSION, CancelOptions, GROUP } from './schema.ts';

/** POST nodeoperations/<o>/cancel: marks the operation; whoever runs it stops before the cloud is called. 409 once it has been called. */
export function cancelOperation(room: NodeRoom): Handler {
  return async (context) => {
    const object = { group: GROUP, kind: 'nodeoperations', name: context.info.name };
    const { value, warnings } = readOptions(CancelOptions, await context.body(), context.query, {
      kind: 'CancelOptions',
      apiVersion: API_VERSION,
      object,
    });
    for (const warning of warnings) context.warn(warning);
    for (;;) {
      let operation: Operation;
      try {
        operation = await room.store.get(context.info.name);
      } catch (error) {
        throw isNotFound(error) ? notFound(object) : error;
      }
      const { phase, calls } = operation.status;
      if (isFinal(phase)) throw conflict(object, `it has ended: ${phase}`);
      if (calls?.length)
        throw conflict(object, `the cloud has been called already (${calls.at(-1)?.action}), so it can only be waited for`);
      if (operation.status.cancelRequested) return { code: 201, object: operation };
      const cancelRequested = value.reason ? `${context.user.name}: ${value.reason}` : context.user.name;
      try {
        return { code: 201, object: await room.store.update(operation, { ...operation.status, cancelRequested }) };
      } catch (error) {
        // The operation moved on meanwhile; what it is now decides.
        if (!isConflict(error)) throw error;
      }
    }
  };
}
