import type { V1Status } from '@kubernetes/client-node';

/** One entry of `details.causes[]`: which field or guard, what is wrong with it. */
export type StatusCause = { reason: string; message: string; field?: string };

/** What the caller named: the object an error is about. `kind` is the resource (plural), as Kubernetes does it. */
export type StatusObject = { group?: string; kind?: string; name?: string };

type Options = StatusObject & { causes?: StatusCause[]; retryAfterSeconds?: number };

/**
 * An error that is answered to the caller as a Kubernetes `Status`. Everything in it is shown to the caller: no secret, no stack.
 * `code` is the HTTP status. Made only by the functions below, so that every reason and code stands in this file.
 */
export class StatusError extends Error {
  readonly status: V1Status & { status: 'Failure'; reason: string; code: number };

  constructor(code: number, reason: string, message: string, options: Options = {}) {
    super(message);
    this.name = 'StatusError';
    const { group, kind, name, causes, retryAfterSeconds } = options;
    const details = {
      ...(name !== undefined && { name }),
      ...(group !== undefined && { group }),
      ...(kind !== undefined && { kind }),
      ...(causes?.length && { causes }),
      ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    };
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      ...(Object.keys(details).length > 0 && { details }),
      code,
    };
  }
}

function qualified(object: StatusObject): string {
  const resource = object.group ? `${object.kind}.${object.group}` : (object.kind ?? '');
  return object.name ? `${resource} "${object.name}"` : resource;
}

export const badRequest = (message: string, options?: Options) => new StatusError(400, 'BadRequest', message, options);
export const unauthorized = (message = 'Unauthorized') => new StatusError(401, 'Unauthorized', message);
export const forbidden = (object: StatusObject, why: string, options?: Options) =>
  new StatusError(403, 'Forbidden', object.kind ? `${qualified(object)} is forbidden: ${why}` : why, { ...object, ...options });
export const notFound = (object: StatusObject) => new StatusError(404, 'NotFound', `${qualified(object)} not found`, object);
/** A path that names nothing. kubectl recognises this exact text. */
export const pathNotFound = () => new StatusError(404, 'NotFound', 'the server could not find the requested resource');
export const methodNotAllowed = (method: string) =>
  new StatusError(405, 'MethodNotAllowed', `the server does not allow this method on the requested resource: ${method}`);
export const notAcceptable = (offered: readonly string[]) =>
  new StatusError(406, 'NotAcceptable', `only the following media types are accepted: ${offered.join(', ')}`);
export const conflict = (object: StatusObject, why: string, options?: Options) =>
  new StatusError(409, 'Conflict', object.kind ? `Operation cannot be fulfilled on ${qualified(object)}: ${why}` : why, {
    ...object,
    ...options,
  });
export const expired = (message: string) => new StatusError(410, 'Expired', message);
export const tooLarge = (message: string) => new StatusError(413, 'RequestEntityTooLarge', message);
export const unsupportedMediaType = (message: string) => new StatusError(415, 'UnsupportedMediaType', message);
export const invalid = (object: StatusObject, causes: StatusCause[]) =>
  new StatusError(
    422,
    'Invalid',
    `${qualified(object)} is invalid: ${causes.map((c) => (c.field ? `${c.field}: ${c.message}` : c.message)).join(', ')}`,
    { ...object, causes },
  );
/** Only before a side effect: a client may repeat the request by itself. */
export const tooManyRequests = (message: string, retryAfterSeconds: number, options?: Options) =>
  new StatusError(429, 'TooManyRequests', message, { ...options, retryAfterSeconds });
/** `id` is in the log too, so that the two can be joined. */
export const internalError = (id: string) =>
  new StatusError(500, 'InternalError', `Internal error occurred; the log of the hub has it under id ${id}`);
/** What is behind us refused, broke or made no sense. */
export const badGateway = (message: string, options?: Options) => new StatusError(502, 'BadGateway', message, options);
export const serviceUnavailable = (message: string, options?: Options) => new StatusError(503, 'ServiceUnavailable', message, options);
export const timeout = (message: string, options?: Options) => new StatusError(504, 'Timeout', message, options);
