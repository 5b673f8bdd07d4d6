import { badGateway, badRequest, forbidden, type StatusError, serviceUnavailable, timeout, tooManyRequests } from '../../kube/status.ts';
import { TargetError } from '../../tunnel/target-error.ts';

/** Why a target did not answer, as a Status. Whatever is not known is a broken gateway. */
export function targetFailure(error: Error): StatusError {
  if (!(error instanceof TargetError)) return badGateway('the request could not be carried to its target');
  switch (error.code) {
    case 400:
      return badRequest(error.message);
    case 403:
      return forbidden({}, error.message);
    case 429:
      return tooManyRequests(error.message, 1);
    case 503:
      return serviceUnavailable(error.message);
    case 504:
      return timeout(error.message);
    default:
      return badGateway(error.message);
  }
}
