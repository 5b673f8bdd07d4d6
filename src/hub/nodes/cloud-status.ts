import { conflict, forbidden, invalid, notFound, type StatusError, serviceUnavailable, tooManyRequests } from '../../kube/status.ts';
import type { CloudError } from './clouds/cloud.ts';
import { GROUP } from './schema.ts';

/** A cloud's error as the answer to a request that asked the cloud while it waited. */
export function cloudStatus(error: CloudError, nodeName: string, cloud: string): StatusError {
  const object = { group: GROUP, kind: 'nodes', name: nodeName };
  const message = `${cloud}: ${error.message}`;
  switch (error.kind) {
    case 'NotFound':
      return notFound({ group: GROUP, kind: 'instances', name: nodeName });
    case 'Forbidden':
      return forbidden(object, `the cloud refuses the credentials of the hub: ${message}`);
    case 'Throttled':
      return tooManyRequests(message, error.retryAfterSeconds ?? 5, object);
    case 'Conflict':
      return conflict(object, message);
    case 'Invalid':
      return invalid(object, [{ reason: 'FieldValueInvalid', message, field: 'spec.providerID' }]);
    case 'Transient':
      return serviceUnavailable(message, object);
  }
}
