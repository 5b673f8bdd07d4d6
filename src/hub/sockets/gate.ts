import type { IncomingMessage } from 'node:http';
import type { UserInfo } from '../auth/user.ts';
import type { ResourceInfo } from '../http/resource.ts';

/** Who was let in, and who vouched for them. */
export type Admitted = { user: UserInfo; via: 'frontProxy' | 'token' | 'certificate' };

/**
 * Finds out who calls and whether they may. Each listener has its own; made by the root of the hub out of authentication, authorisation and audit. Throws
 * StatusError 401, 403, 429 or 503.
 */
export type Admit = (request: IncomingMessage, info: ResourceInfo) => Promise<Admitted>;

/** Whether somebody who was let in still may, asked anew. Throws when that cannot be found out. */
export type StillAllowed = (admitted: Admitted, info: ResourceInfo) => Promise<boolean>;
