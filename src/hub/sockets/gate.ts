import type { IncomingMessage } from 'node:http';
import type { UserInfo } from '../auth/user.ts';
import type { ResourceInfo } from '../http/resource.ts';

/** Who was let in, and whether the front proxy vouched. */
export type Admitted = { user: UserInfo; viaFrontProxy: boolean };

/** Finds out who calls and whether they may. Implemented by the root of the hub out of authentication, authorisation and audit. */
export type Gate = {
  /** Throws StatusError 401, 403, 429 or 503. */
  admit(request: IncomingMessage, info: ResourceInfo): Promise<Admitted>;
  /** Whether somebody who was let in still may, asked anew. Throws when that cannot be found out. */
  stillAllowed(admitted: Admitted, info: ResourceInfo): Promise<boolean>;
};
