import type { Caller } from '../../tunnel/caller.ts';
import { TargetError } from '../../tunnel/target-error.ts';

/**
 * Users of Kubernetes' own components have rights by their name in every cluster: in the child these must not come with a name from the parent. The accounts of
 * kube-system are such (controllers run with them); other ServiceAccounts have in the child what somebody there gave that name.
 */
const PLAIN_SYSTEM_USERS = /^system:(serviceaccount:(?!kube-system:)[^:]+:[^:]+|anonymous)$/;
/** Groups that every authenticated user of that kind has, here as there. */
const PLAIN_SYSTEM_GROUPS = /^system:(authenticated|unauthenticated|serviceaccounts(:(?!kube-system$)[^:]+)?)$/;

/** Servers cut blanks around a header's value off: ` system:masters` would pass as a plain group here and be a powerful one in the child. */
const malformed = (text: string) => /\p{Cc}|^\s|\s$/u.test(text);

/**
 * Headers that let the agent act as the caller in the child (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation). A group that
 * carries the rights of a component (system:masters, system:nodes, ...) is left out unless `allowed` lists it; a user of that kind is refused with TargetError 403.
 */
export function impersonation(caller: Caller, allowed: readonly string[]): string[] {
  const { name, uid, groups, extra } = caller;
  if (name.startsWith('system:') && !PLAIN_SYSTEM_USERS.test(name) && !allowed.includes(name)) {
    throw new TargetError(
      403,
      `the user ${JSON.stringify(name)} of the parent is not mapped into this cluster: start the agent with --allow-identity=${name} to allow it`,
    );
  }
  const mapped = groups.filter((group) => !group.startsWith('system:') || PLAIN_SYSTEM_GROUPS.test(group) || allowed.includes(group));
  // The tunnel writes an empty extra value as one blank; groups without a name are none.
  const values = Object.values(extra)
    .flat()
    .filter((value) => value !== ' ');
  if (name === '' || mapped.includes('') || [name, uid, ...mapped, ...Object.keys(extra), ...values].some(malformed))
    throw new TargetError(
      403,
      'the caller cannot be mapped into this cluster: its name, groups or extra fields are empty, or hold control characters or blanks at an end',
    );
  const headers = ['impersonate-user', bytes(name)];
  if (uid !== '') headers.push('impersonate-uid', bytes(uid));
  for (const group of mapped) headers.push('impersonate-group', bytes(group));
  for (const [key, values] of Object.entries(extra)) {
    for (const value of values) headers.push(`impersonate-extra-${headerKey(key)}`, bytes(value));
  }
  return headers;
}

/** Header values are bytes; Node takes them as latin1, one character a byte. */
const bytes = (text: string) => Buffer.from(text, 'utf8').toString('latin1');

/** Percent-encodes what a header name cannot hold, as client-go does. */
const headerKey = (key: string) =>
  encodeURIComponent(key.toWellFormed()).replaceAll(/[()]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
