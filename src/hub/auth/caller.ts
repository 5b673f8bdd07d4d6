import type { UserInfo } from './user.ts';

/** An authenticated caller. `via` says who vouched: only what the front proxy says may carry system:masters without a review. */
export type Caller = { user: UserInfo; via: 'frontProxy' | 'token' | 'certificate' };

const ANONYMOUS = 'system:anonymous';
const AUTHENTICATED = 'system:authenticated';
const UNAUTHENTICATED = 'system:unauthenticated';

/** Adds group system:authenticated as kube-apiserver does: not to system:anonymous and not when one of the two groups is there. */
export function withAuthenticatedGroup(user: UserInfo): UserInfo {
  if (user.name === ANONYMOUS || user.groups.includes(AUTHENTICATED) || user.groups.includes(UNAUTHENTICATED)) return user;
  return { ...user, groups: [...user.groups, AUTHENTICATED] };
}
